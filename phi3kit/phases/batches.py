"""Data modules: prepared data -> batches, shuffled by a pure function of the seed, resumable exactly.

Special here: the data state of a run is one number, the batches consumed. It travels in the checkpoint, and
the next loader starts there (see `BatchOrder`); Lightning's own loader state is not used.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, final

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from phi3kit.errors import UserError
from phi3kit.families import Family, Tokenizer
from phi3kit.phases.collate import Supervised, pack, packed_batch, stream_batch
from phi3kit.phases.order import BatchOrder
from phi3kit.records import Batch, Message
from phi3kit.text.chat_files import read_conversations, read_preferences
from phi3kit.text.template import render

END_OF_DOCUMENT = "<|endoftext|>"


class Batches(LightningDataModule, Family, ABC):
    """Data for a phase. Built as ``Batches(tokenizer, **options)``.

    Law: batch n is the same whatever came before, with any number of workers.

    Args:
        tokenizer: the one the data is, or will be, made with.
        batch_size: rows per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
    """

    def __init__(
        self, tokenizer: Tokenizer, batch_size: int, num_workers: int, seed: int, heldout_batches: int | None
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.heldout_batches = heldout_batches
        self.consumed = 0

    @abstractmethod
    def samples(self, part: str) -> Dataset[Any]:
        """The map-style samples of a part, "train" or "heldout"; None-free and of known length."""

    @abstractmethod
    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        """A batch out of numbered samples."""

    def train_dataloader(self) -> DataLoader[Batch]:
        samples = Numbered(self.samples("train"))
        trainer = self.trainer
        assert trainer is not None
        order = BatchOrder(
            len(samples),
            self.batch_size,
            trainer.max_steps * trainer.accumulate_grad_batches,
            self.seed,
            trainer.global_rank,
            trainer.world_size,
            self.consumed,
        )
        return self._loader(samples, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        samples = Numbered(self.samples("heldout"))
        numbers = list(range(len(samples)))
        if self.heldout_batches is not None:
            numbers = numbers[: self.heldout_batches * self.batch_size]
        rows = [numbers[i : i + self.batch_size] for i in range(0, len(numbers), self.batch_size)]
        return self._loader(samples, rows)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self.val_dataloader()

    def _loader(self, samples: Dataset[Any], order: Any) -> DataLoader[Batch]:
        return DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),  # leaves the global one alone
        )

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        consumed = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return {"consumed": consumed, "tokenizer": self.tokenizer.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["tokenizer"] != self.tokenizer.fingerprint:
            raise UserError("the checkpoint was trained with another tokenizer; start a new run with --out")
        self.consumed = state["consumed"]


@final
class Numbered(Dataset[tuple[int, Any]]):
    """Samples together with their numbers."""

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.samples[number]


def litdata_blocks(folder: Path, block_size: int) -> Dataset[torch.Tensor]:
    """A litdata folder of token chunks as blocks of `block_size` ids."""
    import os

    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    from litdata import StreamingDataset, TokensLoader

    if not (folder / "index.json").is_file():
        raise UserError(f"there are no tokens at {folder}; run `phi3kit prepare` with `out: {folder.parent.parent}`")
    tokens = sum(chunk["dim"] for chunk in json.loads((folder / "index.json").read_text())["chunks"])
    if tokens < block_size:
        raise UserError(f"{folder} holds {tokens} tokens, fewer than one block of {block_size}; lower the context")
    return StreamingDataset(str(folder), item_loader=TokensLoader(block_size=block_size))


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
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        folder: Path,
        part: str,
        context: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.folder, self.part, self.context = Path(folder), part, context
        check_tokenizer(self.folder, tokenizer)

    def samples(self, part: str) -> Dataset[Any]:
        return litdata_blocks(self.folder / self.part / part, self.context + 1)

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        blocks = torch.stack([torch.as_tensor(ids).to(torch.int64) for _, ids in samples])
        end = self.tokenizer.special_tokens[END_OF_DOCUMENT]
        return stream_batch(blocks, end, [number for number, _ in samples])


@final
class ConversationBatches(Batches):
    """Chats packed into rows; the loss falls on assistant turns, their closing ``<|end|>`` included.

    Args:
        tokenizer: the net's.
        train: a JSONL or Parquet file of ``messages``.
        heldout: the same, never trained on.
        context: tokens per row; longer conversations are cut at the end.
        batch_size: rows per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path,
        context: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context = context

    def samples(self, part: str) -> Dataset[Any]:
        conversations = read_conversations(self.files[part])
        sequences = [supervised(c.messages, self.tokenizer, self.context) for c in conversations]
        sequences = [s for s in sequences if any(s.supervised)]
        if not sequences:
            raise UserError(f"{self.files[part]} holds no assistant turn within {self.context} tokens")
        rows = pack([len(s.ids) for s in sequences], self.context)
        return [[sequences[n] for n in row] for row in rows]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = self.tokenizer.special_tokens[END_OF_DOCUMENT]
        return packed_batch([row for _, row in samples], padding, [number for number, _ in samples])


@final
class PreferenceBatches(Batches):
    """Pairs of answers: row 2i is the chosen one, row 2i + 1 the rejected one.

    Args:
        tokenizer: the net's.
        train: a JSONL or Parquet file of ``prompt``, ``chosen``, ``rejected``.
        heldout: the same, never trained on.
        context: longest prompt and answer together, in tokens; longer pairs are left out.
        batch_size: pairs per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path,
        context: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context = context

    def samples(self, part: str) -> Dataset[Any]:
        pairs = []
        for preference in read_preferences(self.files[part]):
            pair = [
                answer_only(preference.prompt, answer, self.tokenizer)
                for answer in (preference.chosen, preference.rejected)
            ]
            if max(len(s.ids) for s in pair) <= self.context:
                pairs.append(pair)
        if not pairs:
            raise UserError(f"{self.files[part]} holds no pair within {self.context} tokens")
        return pairs  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = self.tokenizer.special_tokens[END_OF_DOCUMENT]
        rows = [[sequence] for _, pair in samples for sequence in pair]
        return packed_batch(rows, padding, [number for number, _ in samples])


def supervised(messages: tuple[Message, ...], tokenizer: Tokenizer, context: int) -> Supervised:
    """A conversation as ids, cut to `context`, with the loss on its assistant turns."""
    rendered = render(messages, tokenizer)
    return Supervised(rendered.ids[:context], rendered.supervised[:context])


def answer_only(prompt: tuple[Message, ...], answer: tuple[Message, ...], tokenizer: Tokenizer) -> Supervised:
    """Prompt and answer as ids, with the loss on the answer alone (earlier assistant turns are prompt)."""
    rendered = render((*prompt, *answer), tokenizer)
    prefix = len(render(prompt, tokenizer).ids)
    wanted = [False] * prefix + rendered.supervised[prefix:]
    return Supervised(rendered.ids, wanted)
