"""A public checkpoint folder -> a run folder, which `fit` starts from, `chat` talks with and `export` lowers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import final

import yaml

from phi3kit import __version__
from phi3kit.checkpoints.copying import Move, copy, sharded
from phi3kit.checkpoints.origin import ADAPTERS, CARRIED, FOLDER, carry, left_behind
from phi3kit.checkpoints.plan import Conversion
from phi3kit.checkpoints.public_folder import read_public_folder
from phi3kit.checkpoints.tokenizer_door import compare_tokenizers
from phi3kit.checkpoints.tokenizer_files import read_and_compare, write_json
from phi3kit.families import Part
from phi3kit.model.stored import INDEX, Stored
from phi3kit.model.tensor_file import NAMES, Form, create, header
from phi3kit.model.weights import to_hugging_face
from phi3kit.text import save_tokenizer


@final
class Inward(Conversion):
    """From the public layout to ours.

    Args:
        folder: the checkpoint folder.
    """

    def __init__(self, folder: Path) -> None:
        self.public = public = read_public_folder(folder)
        self.tokenizer, self.of_chats = read_and_compare(folder, public.net.dims.vocab_size)
        forms, own = public.stored.forms, public.net.state_dict()
        by_ours: dict[str, Part] = {part.ours: part for part in public.parts}
        self.forms = {
            to_hugging_face(name): Form(forms[by_ours[name].theirs].dtype, tuple(own[name].shape))
            for name in own
            if name in by_ours
        }
        self.moves = [Move(p.theirs, to_hugging_face(p.ours), target_place=p.place) for p in public.parts]
        self.carried = {name: forms[name] for name in public.unused}
        self.size = sum(form.bytes for form in (*self.forms.values(), *self.carried.values()))
        self.summary = self._summary()

    def write(self, out: Path) -> Iterator[int]:
        (out / FOLDER).mkdir()
        weights = Stored([create(out / name, head) for name, head in sharded(self.forms).items()])
        carried = Stored([create(out / FOLDER / CARRIED, header(self.carried))] if self.carried else [])
        yield from copy(self.moves, self.public.stored, weights)
        yield from copy([Move(name, name) for name in self.carried], self.public.stored, carried, checked=False)
        for file in (*weights.files.values(), *carried.files.values()):
            file.finish()
        if len(weights.files) > 1:
            write_json(out / INDEX, index(weights))
        carry(self.public, out / FOLDER)
        if self.tokenizer is not None:
            save_tokenizer(self.tokenizer, out / "tokenizer")
        (out / "config.yaml").write_text(self._recipe(), encoding="utf-8")  # last: without it this is no run

    def _recipe(self) -> str:
        text = yaml.safe_dump({"verb": "fit", "net": self.public.section}, sort_keys=False, default_flow_style=None)
        return (
            f"# {self.public.path.resolve().name} ({self.public.config['architectures'][0]}), converted by phi3kit "
            f"{__version__}.\n# The net and its weights are ours; {FOLDER}/ keeps what else the public folder had.\n"
            f"{text}"
        )

    def _summary(self) -> list[str]:
        public, types = self.public, Counter(NAMES[form.dtype] for form in self.forms.values())
        lines = [
            f"{public.path.name}: {public.config['architectures'][0]}, {public.net.parameter_count():,} parameters in "
            f"{len(public.stored.place)} tensors of {len(public.stored.files)} files, {', '.join(types)}",
        ]
        if self.carried:
            lines.append(
                f"carried along, unused by the net: {len(self.carried)} tensors ({next(iter(self.carried))} …)"
            )
        if self.tokenizer is None:
            lines.append("no tokenizer was converted: there is no tokenizer.json and no cl100k_base.tiktoken")
        else:
            lines.append(f"tokenizer: {type(self.tokenizer).__name__}, {self.tokenizer.vocab_size} ids")
            lines += [*compare_tokenizers(public.path, self.tokenizer), *self.of_chats]
        code = sorted(path.name for path in public.path.glob("*.py"))
        if code:
            lines.append(f"carried along, never executed: {', '.join(code)}")
        if left := left_behind(public):
            lines.append(f"left behind: {', '.join(left)}")
        if any(name in left for name in ADAPTERS):
            lines.append(
                "the adapter's training is not in this run: merge it into the weights first, then convert those"
            )
        return lines


def index(stored: Stored) -> dict[str, object]:
    """The content of ``model.safetensors.index.json``."""
    total = sum(form.bytes for form in stored.forms.values())
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(stored.place.items()))}
