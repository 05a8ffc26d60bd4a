"""A safetensors file as it lies on disk: its tensors are views of its mapped pages, to read or to fill.

Special here: nothing is copied on the way. Reading maps pages privately (a changed tensor never reaches the file);
a new file has its whole size from the start, so that a full disk shows before the work and not in its middle, and
`forget` hands pages back that were read or written, which keeps a conversion of any size small.

The format (https://huggingface.co/docs/safetensors): the header's length in 8 bytes, the header as JSON, the numbers.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from phi3kit.errors import UserError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ALIGNMENT = 8  # of the numbers' beginning, as the format's own writer has it


class Form(NamedTuple):
    """A tensor without its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


@final
class TensorFile:
    """An open safetensors file; see `read` and `create`.

    Args:
        path: of the file, which is whole.
        writable: changes of its tensors reach the file.
    """

    def __init__(self, path: Path, writable: bool = False) -> None:
        self.path = path
        self._file = open(path, "rb+" if writable else "rb")  # noqa: SIM115 (open until `finish`)
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY
        self._pages = mmap.mmap(self._file.fileno(), 0, access=access)
        if not writable:
            self._file.close()
        self.header = self._pages[8 : 8 + int.from_bytes(self._pages[:8], "little")]
        self.forms = forms_in(self.header, str(path))
        entries = json.loads(self.header)
        self._begin = {name: 8 + len(self.header) + entries[name]["data_offsets"][0] for name in self.forms}

    def tensor(self, name: str) -> Tensor:
        """A tensor, its numbers being the file's pages."""
        form = self.forms[name]
        if not form.bytes:
            return torch.empty(form.shape, dtype=form.dtype)
        count = form.bytes // form.dtype.itemsize
        return torch.frombuffer(self._pages, dtype=form.dtype, count=count, offset=self._begin[name]).view(form.shape)

    def fill(self, view: Tensor, numbers: Tensor) -> None:
        """Put numbers into a view of one of its tensors, converting where types differ.

        In one piece they are written past the mapping, which takes a fifth of the time: no page is faulted in.
        """
        if view.is_contiguous() and view.numel():
            content = numbers.to(view.dtype).reshape(-1).view(torch.uint8).numpy()
            place = view.data_ptr() - self._address
            written = os.pwrite(self._file.fileno(), content, place)  # type: ignore[arg-type]
            assert written == view.nbytes, f"{written} of {view.nbytes} bytes were written to {self.path}"
        else:
            view.copy_(numbers)

    @property
    def _address(self) -> int:
        return torch.frombuffer(self._pages, dtype=torch.uint8, count=1).data_ptr()

    def forget(self) -> None:
        """Give this process's pages back; what was written stays written, what is needed again is read again."""
        self._pages.madvise(mmap.MADV_DONTNEED)

    def finish(self) -> None:
        """Make what was written durable; nothing can be filled after that."""
        self._pages.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def read(path: Path) -> TensorFile:
    """Open a file. Raises `UserError` where it is no whole safetensors file."""
    try:
        with safe_open(path, "pt"):  # the reference reader's checks: the header, and that it accounts for every byte
            pass
        return TensorFile(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); restore or download that file again") from error


def create(path: Path, header: bytes) -> TensorFile:
    """A new file of the size its header says, full of zeros. Raises `OSError` where the disk has no room for it."""
    size = 8 + len(header) + data_size(header)
    with open(path, "xb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        file.write(len(header).to_bytes(8, "little") + header)
    return TensorFile(path, writable=True)


def data_size(header: bytes) -> int:
    """Bytes of numbers that a header announces."""
    entries = [about for name, about in json.loads(header).items() if name != "__metadata__"]
    return max((about["data_offsets"][1] for about in entries), default=0)


def header(forms: Mapping[str, Form]) -> bytes:
    """The header of a file with these tensors, one after the other."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers wants to know the framework
    begin = 0
    for name, form in forms.items():
        offsets = [begin, begin := begin + form.bytes]
        entries[name] = {"dtype": NAMES[form.dtype], "shape": list(form.shape), "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % ALIGNMENT)


def forms_in(header: bytes, file: str = "") -> dict[str, Form]:
    """Type and shape of each tensor of a header, in its order. Raises `UserError` where a type is unknown."""
    forms = {}
    for name, about in json.loads(header).items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in DTYPES:
            raise UserError(f"{file}: {name} is of type {about['dtype']}; {', '.join(DTYPES)} can be read")
        forms[name] = Form(DTYPES[about["dtype"]], tuple(about["shape"]))
    return forms
