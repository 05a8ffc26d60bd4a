"""The text that a quantizer is fitted to: token chunks of `prepare`, or a file of documents or conversations."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from phi3kit.families import Tokenizer


def rows_of(path: Path, tokenizer: Tokenizer, row: int, tokens: int) -> list[Tensor]:
    """Rows of `row` ids, about `tokens` in all.

    Args:
        path: a folder of token chunks, or a JSONL file whose rows have a "text" or "messages".
        tokenizer: the model's.
        row: ids of each.
        tokens: of all rows; a file may have fewer.

    Raises:
        UserError: there is no such file, a row has neither, or the file holds not one row of ids.
    """
    from phi3kit.verbs.export_order import blocks_of

    count = max(1, tokens // row)
    if path.is_dir():
        return list(blocks_of(path, row, count))
    if not path.is_file():
        raise UserError(f"calibration: there is nothing at {path}; give a folder of token chunks or a JSONL file")
    rows = list(itertools.islice(_packed(_ids(path, tokenizer), row), count))
    if not rows:
        raise UserError(f"calibration: {path} holds fewer than {row} tokens; give more text")
    return rows


def _ids(path: Path, tokenizer: Tokenizer) -> Iterator[int]:
    """Of all texts, one after the other."""
    from phi3kit.records import Message
    from phi3kit.text.template import render

    with path.open() as file:
        for number, line in enumerate(file, 1):
            content: dict[str, Any] = json.loads(line)
            if "messages" in content:
                messages = [Message(message["role"], message["content"]) for message in content["messages"]]
                yield from render(messages, tokenizer).ids
            elif "text" in content:
                yield from tokenizer.encode(content["text"])
            else:
                raise UserError(f'calibration: {path}:{number} has {sorted(content)}, neither "text" nor "messages"')


def _packed(ids: Iterator[int], row: int) -> Iterator[Tensor]:
    """Whole rows; what is left over is dropped."""
    import torch

    while len(found := list(itertools.islice(ids, row))) == row:
        yield torch.tensor(found)
