"""The tensors of a folder, in one ``model.safetensors`` or in shards, as they lie on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import final

from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.model.tensor_file import Form, TensorFile, read

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(?P<name>(?:pytorch_)?model[-_.])(?P<number>\d+)-of-(?P<total>\d+)\.safetensors")


@final
class Stored:
    """Tensors by name, whatever file each is in; `files` are the open files by name.

    Args:
        files: open files. Raises `UserError` where two hold the same tensor.
    """

    def __init__(self, files: list[TensorFile]) -> None:
        self.files = {file.path.name: file for file in files}
        self.place: dict[str, str] = {}
        for file_name, file in self.files.items():
            for name in file.forms:
                if name in self.place:
                    raise UserError(f"{name} is in {self.place[name]} and again in {file_name}; remove one of them")
                self.place[name] = file_name

    @property
    def forms(self) -> dict[str, Form]:
        """Type and shape of every tensor."""
        return {name: self.files[file].forms[name] for name, file in self.place.items()}

    def tensor(self, name: str) -> Tensor:
        """A tensor, a view of its file's pages."""
        return self.files[self.place[name]].tensor(name)

    def forget(self) -> None:
        """Give this process's pages of all files back."""
        for file in self.files.values():
            file.forget()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder's model; none where there are no weights.

    Raises:
        UserError: a shard is missing, which is named.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    names = sorted(set(_weight_map(folder / INDEX).values())) if (folder / INDEX).is_file() else _shards(folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} lacks {missing[0]}, one of its {len(names)} shards; download it again")
    return [folder / name for name in names]


def _shards(folder: Path) -> list[str]:
    """Names of the shards of a folder without an index, those that are missing included.

    Raises:
        UserError: shards of two divisions, of which one is left over from something else.
    """
    found = [match for path in sorted(folder.glob("*.safetensors")) if (match := _SHARD.fullmatch(path.name))]
    if not found:
        return []
    divisions = {(match["name"], match["total"]) for match in found}
    if len(divisions) > 1:
        first, second = (next(m[0] for m in found if (m["name"], m["total"]) == one) for one in sorted(divisions)[:2])
        raise UserError(f"{folder} has {first} and {second}, which are shards of two models; remove those of one")
    (name, total), digits = divisions.pop(), len(found[0]["number"])
    return [f"{name}{number:0{digits}d}-of-{total}.safetensors" for number in range(1, int(total) + 1)]


def shard_name(number: int, total: int) -> str:
    """``model-00001-of-00002.safetensors``; the only one of its kind is ``model.safetensors``."""
    return WEIGHTS if total == 1 else f"model-{number:05d}-of-{total:05d}.safetensors"


def open_stored(folder: Path) -> Stored:
    """A folder's tensors. Raises `UserError`: a missing or damaged shard, or an index that its shards do not keep."""
    stored = Stored([read(path) for path in weight_files(folder)])
    if (folder / INDEX).is_file() and WEIGHTS not in stored.files:
        for name, file in _weight_map(folder / INDEX).items():
            if stored.place.get(name) != file:
                raise UserError(f"{folder / INDEX} says that {name} is in {file}, where it is not; download both again")
    return stored


def _weight_map(index: Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"]
        if any(Path(file).name != file for file in names.values()):
            raise ValueError("a shard outside of the folder")
        return names
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{index} is damaged ({error!r}); download it again") from error
