"""Data modules: prepared data -> batches, shuffled by a pure function of the seed, resumable exactly.

Special here: the data state of a run is one number, the batches consumed. It travels in the checkpoint, and
the next loader starts there (see `BatchOrder`); Lightning's own loader state is not used.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from phi3kit.errors import UserError
from phi3kit.families import Family, Tokenizer
from phi3kit.phases.order import BatchOrder
from phi3kit.phases.replay import BothOrders, BothSamples, CollateBoth
from phi3kit.records import Batch


class Batches(LightningDataModule, Family, ABC):
    """Data for a phase. Built as ``Batches(tokenizer, **options)``.

    Law: batch n is the same whatever came before, with any number of workers. `gives` says what its rows
    are; a class whose rows are not texts of their own sets it.

    Args:
        tokenizer: the one the data is, or will be, made with.
        batch_size: rows per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
    """

    gives: ClassVar[str] = "texts"  # or "pairs": row 2i is the better answer, row 2i + 1 the worse one

    def __init__(
        self, tokenizer: Tokenizer, batch_size: int, num_workers: int, seed: int, heldout_batches: int | None
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.heldout_batches = heldout_batches
        self.consumed = 0
        self.report: dict[str, Any] = {}  # of each part: how many rows, and what is in none
        self.replay: Batches | None = None  # text that comes beside each training batch; `fit` sets it

    @abstractmethod
    def samples(self, part: str) -> Dataset[Any]:
        """The map-style samples of a part, "train" or "heldout"; None-free and of known length."""

    @abstractmethod
    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        """A batch out of numbered samples."""

    def tell(self, part: str, counts: dict[str, int], lost: str | int = "") -> None:
        """Keep what a part holds for the run's report; what of it is lost is said once, by the first process."""
        rows = self.report.setdefault("rows", {})
        if lost and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            _say_once(f"phi3kit: {lost}")
        rows[part] = counts

    def train_dataloader(self) -> DataLoader[Batch]:
        samples = self.samples("train")
        order = self._order(samples, self.batch_size, self.seed)
        if self.replay is None:
            return self._loader(Numbered(samples), order)
        before = self.replay.samples("train")
        orders = BothOrders(order, self._order(before, self.replay.batch_size, self.replay.seed))
        return self._loader(BothSamples(samples, before), orders, CollateBoth(self.collate, self.replay.collate))

    def _order(self, samples: Dataset[Any], batch_size: int, seed: int) -> BatchOrder:
        """Which samples make up the run's training batches on this device, from the first that is not consumed."""
        trainer = self.trainer
        assert trainer is not None
        batches = trainer.max_steps * trainer.accumulate_grad_batches
        return BatchOrder(
            len(samples),  # type: ignore[arg-type]
            batch_size,
            batches,
            seed,
            trainer.global_rank,
            trainer.world_size,
            self.consumed,
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The held-out data, and behind it that of the replayed text, where there is one."""
        own = self.heldout_loader()
        return own if self.replay is None else [own, self.replay.heldout_loader()]

    def heldout_loader(self) -> DataLoader[Batch]:
        """The data's own held-out rows, in their order."""
        samples = Numbered(self.samples("heldout"))
        numbers = list(range(len(samples)))
        if self.heldout_batches is not None:
            numbers = numbers[: self.heldout_batches * self.batch_size]
        rows = [numbers[i : i + self.batch_size] for i in range(0, len(numbers), self.batch_size)]
        return self._loader(samples, rows)

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        return self.val_dataloader()

    def _loader(self, samples: Dataset[Any], order: Any, collate: Any = None) -> DataLoader[Batch]:
        return DataLoader(
            samples,
            batch_sampler=order,
            collate_fn=collate or self.collate,
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


@functools.cache
def _say_once(line: str) -> None:
    """Print a line, but not again where the same data is read for another measure."""
    print(line, file=sys.stderr)


@final
class Numbered(Dataset[tuple[int, Any]]):
    """Samples together with their numbers."""

    def __init__(self, samples: Dataset[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.samples[number]
