"""``hugging_face/`` in a converted run: what the public folder held beside the net, for the way back.

config.json, tokenizer files, code ...   every file of the folder that is not weights, as it was; never executed
headers/FILE.json                        each safetensors file's header: names, types, shapes and their order
carried.safetensors                      the tensors that the net does not use
"""

from __future__ import annotations

import shutil
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import yaml

from phi3kit.checkpoints.chat_files import MORE as TEMPLATES
from phi3kit.checkpoints.public_folder import CONFIG, PICKLED, PublicFolder
from phi3kit.json_files import read_object
from phi3kit.model.public_config import ORIGINAL, ROTATION, named_today, rotated
from phi3kit.model.stored import Stored
from phi3kit.model.tensor_file import Form, forms_in, read

FOLDER, HEADERS, CARRIED = "hugging_face", "headers", "carried.safetensors"
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")  # of LoRA and its kind, as peft saves them
WEIGHTS = (*PICKLED, ".safetensors", ".h5", ".msgpack", ".gguf", ".onnx", ".pte")


def carry(public: PublicFolder, out: Path) -> list[str]:
    """Copy what is beside the weights, and the headers, into `out`; names of the files that were copied."""
    (out / HEADERS).mkdir(parents=True)
    names = sorted(path.name for path in public.path.iterdir() if path.is_file() and path.suffix not in WEIGHTS)
    for name in names:
        content = (public.path / name).read_bytes()
        (out / name).write_bytes(content.removeprefix(BOM_UTF8))  # which transformers does not read
    _copy_templates(public.path, out)
    for name, file in public.stored.files.items():
        (out / HEADERS / f"{name}.json").write_bytes(file.header)
    return names


def left_behind(public: PublicFolder) -> list[str]:
    """What of a public folder is not converted: other weights, and folders (hidden ones aside)."""
    return sorted(
        path.name
        for path in public.path.iterdir()
        if path.name not in public.stored.files
        and not path.name.startswith(".")
        and (path.is_dir() or path.suffix in WEIGHTS)
        and path.name != TEMPLATES
    )


def _copy_templates(folder: Path, out: Path) -> None:
    """Copy chat templates that have a folder of their own."""
    if (folder / TEMPLATES).is_dir():
        shutil.copytree(folder / TEMPLATES, out / TEMPLATES)


@final
class Origin:
    """A converted run's ``hugging_face/``.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_object(path / CONFIG)
        self.headers = {
            file.name.removesuffix(".json"): file.read_bytes() for file in sorted((path / HEADERS).iterdir())
        }
        self.carried = Stored([read(path / CARRIED)] if (path / CARRIED).is_file() else [])

    @property
    def forms(self) -> dict[str, Form]:
        """Type and shape of every tensor that the public folder had."""
        return {name: form for header in self.headers.values() for name, form in forms_in(header).items()}

    @property
    def names(self) -> dict[str, list[str]]:
        """The tensors of each file, in their order."""
        return {file: list(forms_in(header)) for file, header in self.headers.items()}

    @property
    def knows_longrope(self) -> bool:
        """Whether nothing beside the weights is code that reads only ``su``, LongRoPE's name of April 2024."""
        code = [path.read_text(encoding="utf-8", errors="replace") for path in self.path.glob("*.py")]
        return not any("rope_scaling" in text and '"su"' in text for text in code) or any("longrope" in t for t in code)

    def copy_files(self, out: Path) -> None:
        """Copy what was beside the weights."""
        for path in self.path.iterdir():
            if path.is_file() and path.name != CARRIED:
                shutil.copyfile(path, out / path.name)
        _copy_templates(self.path, out)


def find_origin(run: Path) -> Origin | None:
    """The ``hugging_face/`` of a run, or of the run that it started from, and so on; None where there is none."""
    for ancestor in _ancestors(run):
        if (ancestor / FOLDER / CONFIG).is_file():
            return Origin(ancestor / FOLDER)
    return None


def _ancestors(run: Path) -> Iterator[Path]:
    """The run, the run it started from, and so on."""
    seen: set[Path] = set()
    while run.resolve() not in seen and (run / "config.yaml").is_file():
        seen.add(run.resolve())
        yield run
        start = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")).get("start_from")
        if start is None:
            return
        run = Path(start)


def changed_config(
    carried: dict[str, Any], before: dict[str, Any], now: dict[str, Any], *, renamed: bool = False
) -> dict[str, Any]:
    """A carried config.json with the fields that differ between two nets; everything else stays as it was.

    Args:
        carried: as it was read.
        before: what the layout writes for the net that was read.
        now: what it writes for the net to write.
        renamed: call LongRoPE by today's name, where the config has that of April 2024.
    """
    config = dict(carried)
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            config[name] = now.get(name)
    config = {name: value for name, value in config.items() if name in carried or name in now}
    turned = any(before.get(name) != now.get(name) for name in (*ROTATION, ORIGINAL))
    config = rotated(config, now) if turned else config
    return named_today(config) if renamed else config
