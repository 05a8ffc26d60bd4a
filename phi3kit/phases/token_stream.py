"""Batches out of the token chunks that `phi3kit prepare` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

import torch
from torch.utils.data import Dataset, Subset

from phi3kit.bounds import AtLeastOne, AtLeastTwo, NotNegative
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.phases.batches import Batches
from phi3kit.phases.collate import stream_batch
from phi3kit.phases.token_rows import TokenRows
from phi3kit.records import Batch
from phi3kit.text.template import end_of_text_id


def litdata_blocks(folder: Path, block_size: int) -> TokenRows:
    """A litdata folder of token chunks as blocks of `block_size` ids."""
    return TokenRows(folder, block_size)


def check_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Refuse data that another tokenizer made."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise UserError(f"there is no prepared data at {folder}; run `phi3kit prepare` first")
    made_with = json.loads(manifest.read_text())["tokenizer"]["fingerprint"]
    if made_with != tokenizer.fingerprint:
        raise UserError(
            f"{folder} was made with another tokenizer ({made_with[:12]}) than this run's "
            f"({tokenizer.fingerprint[:12]}); point `tokenizer:` at {folder / 'tokenizer'} or prepare again"
        )


@final
class TokenStream(Batches):
    """Packed documents from the token chunks that `phi3kit prepare` wrote.

    Args:
        tokenizer: must be the one the chunks were made with.
        folder: a prepared data folder (the one with manifest.json).
        part: which part of it: "web", "reasoning", …
        context: tokens per row.
        batch_size: rows per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
        most_tokens: train on no more different tokens than this, in rows drawn by the seed; null means all.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        folder: Path,
        part: str,
        context: AtLeastTwo,
        batch_size: AtLeastOne,
        num_workers: NotNegative = 0,
        seed: NotNegative = 0,
        heldout_batches: AtLeastOne | None = None,
        most_tokens: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.folder, self.part, self.context, self.most_tokens = Path(folder), part, context, most_tokens
        check_tokenizer(self.folder, tokenizer)

    def samples(self, part: str) -> Dataset[Any]:
        rows = litdata_blocks(self.folder / self.part / part, self.context + 1)
        there = len(rows)
        self.tell(
            part,
            {"rows": there, "left_out_tokens": rows.left_out},
            rows.left_out and f"{rows.folder}: the last {rows.left_out} of {rows.tokens:,} tokens fill no row",
        )
        if self.most_tokens is None or part != "train":
            return rows
        wanted = self.most_tokens // (self.context + 1)
        if not 0 < wanted <= there:
            held = there * (self.context + 1)
            raise UserError(
                f"most_tokens is {self.most_tokens}, but {rows.folder} holds {there} rows of "
                f"{self.context + 1} tokens; give {self.context + 1} to {held}"
            )
        drawn = torch.randperm(there, generator=torch.Generator().manual_seed(self.seed))
        return Subset(rows, sorted(drawn[:wanted].tolist()))

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        blocks = torch.stack([torch.as_tensor(ids).to(torch.int64) for _, ids in samples])
        end = end_of_text_id(self.tokenizer)
        return stream_batch(blocks, end, [number for number, _ in samples])
