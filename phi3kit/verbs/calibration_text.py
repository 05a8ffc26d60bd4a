"""The text that a quantizer is fitted to: token chunks of `prepare`, or a file of documents or conversations."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from phi3kit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from phi3kit.families import Tokenizer
    from phi3kit.text.chat_tally import Tally


def rows_of(path: Path, tokenizer: Tokenizer, row: int, tokens: int) -> list[Tensor]:
    """Rows of `row` ids, about `tokens` in all.

    Args:
        path: a folder of token chunks, or a file of rows with a "text", or of conversations.
        tokenizer: the model's.
        row: ids of each.
        tokens: of all rows; a file may have fewer.

    Raises:
        UserError: there is no such file, a row has neither, or the file holds not one row of ids.
    """
    from phi3kit.text.chat_tally import Tally
    from phi3kit.verbs.export_order import blocks_of

    count = max(1, tokens // row)
    if path.is_dir():
        return list(blocks_of(path, row, count))
    if not path.is_file():
        raise UserError(f"calibration: there is nothing at {path}; give a folder of token chunks or a JSONL file")
    tally = Tally(path, "skip")
    rows = list(itertools.islice(_packed(_ids(path, tokenizer, tally), row), count))
    if tally.bad:
        print(f"phi3kit: calibration: {tally.told()}", file=sys.stderr)
    if not rows:
        raise UserError(f"calibration: {path} holds fewer than {row} tokens; give more text")
    return rows


def _ids(path: Path, tokenizer: Tokenizer, tally: Tally) -> Iterator[int]:
    """Of all texts, one after the other; what cannot be used is counted and left out."""
    from phi3kit.text.chat_shapes import Dialect, conversation_of
    from phi3kit.text.row_fields import BadRow, UnknownShape, unicode_text
    from phi3kit.text.row_files import Broken, rows_at
    from phi3kit.text.template import render

    for place, row, _ in rows_at(path):
        tally.rows += 1
        try:
            if isinstance(row, Broken):
                raise BadRow(row.reason)
            if isinstance(row, dict) and isinstance(row.get("text"), str):
                yield from tokenizer.encode(unicode_text(row["text"], "text"))
            else:
                yield from render(conversation_of(row, place, Dialect()).item.messages, tokenizer).ids
        except UnknownShape:
            keys = sorted(row) if isinstance(row, dict) else type(row).__name__
            tally.refuse(place, f'has {keys}, neither "text" nor a conversation')
        except (BadRow, UserError) as error:
            tally.refuse(place, str(error))
    tally.check()


def _packed(ids: Iterator[int], row: int) -> Iterator[Tensor]:
    """Whole rows; what is left over is dropped."""
    import torch

    while len(found := list(itertools.islice(ids, row))) == row:
        yield torch.tensor(found)
