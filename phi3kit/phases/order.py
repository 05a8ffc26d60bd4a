"""Which samples make up which batch: a pure function of seed and batch number.

That is all the state a data loader needs: a run that has consumed n batches goes on with batch n, whatever
the number of workers, and sees exactly what an uninterrupted run sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class BatchOrder(Sampler[list[int]]):
    """Sample numbers of each batch: epoch after epoch, every epoch its own shuffle, no sample twice in one.

    Args:
        samples: how many samples there are.
        batch_size: samples per batch and device.
        batches: how many batches the whole run has, per device.
        seed: of the shuffles.
        rank: this device.
        world_size: number of devices; each batch number gives every device its own samples.
        consumed: batches already trained on; iteration starts after them.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        batches: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        consumed: int = 0,
    ) -> None:
        self.samples, self.batch_size, self.batches = samples, batch_size, batches
        self.seed, self.rank, self.world_size, self.consumed = seed, rank, world_size, consumed
        self._shuffles: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.consumed, self.batches):
            yield self.batch(number)

    def batch(self, number: int) -> list[int]:
        """Sample numbers of batch `number`."""
        first = (number * self.world_size + self.rank) * self.batch_size
        return [self._sample(position) for position in range(first, first + self.batch_size)]

    def _sample(self, position: int) -> int:
        epoch, place = divmod(position, self.samples)
        if epoch not in self._shuffles:
            generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
            shuffle = torch.randperm(self.samples, generator=generator).tolist()
            self._shuffles = {k: v for k, v in self._shuffles.items() if k == epoch - 1} | {epoch: shuffle}
        return self._shuffles[epoch][place]
