"""Replay: text that a net learned before comes beside each batch of a later phase, so that the net does not forget it.

Special here: a sample's place says whose it is. One sampler draws the places of both data sets, each a pure function of
the seed and the batch's number, and so a resumed run replays what an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, final

from torch.utils.data import Dataset, Sampler

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.phases.order import BatchOrder
from phi3kit.records import Batch

if TYPE_CHECKING:
    from phi3kit.phases.batches import Batches


@final
@dataclass(frozen=True)
class Replay:
    """What a phase replays of what the net learned before (experience replay, arXiv 1811.11682; for language models
    arXiv 2403.08763, section 5).

    Args:
        data: text to predict token by token, usually a `TokenStream` of pretraining data. A batch of it comes with each
            batch of the phase's own data.
        weight: how much the replayed text's mean loss per token counts beside the phase's own mean loss.
    """

    data: Callable[[Tokenizer], Batches]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise UserError(f"replay.weight is {self.weight}; give a number above 0, or leave replay out")


class Place(NamedTuple):
    """Where a sample is: its number, and whether it is of the replayed data."""

    replayed: bool
    number: int


@final
class BothOrders(Sampler[list[Place]]):
    """The samples of the phase's own batch and of the replayed one, batch by batch.

    Args:
        own: order of the phase's own batches.
        replayed: order of the replayed ones; as many.
    """

    def __init__(self, own: BatchOrder, replayed: BatchOrder) -> None:
        self.own, self.replayed = own, replayed

    def __len__(self) -> int:
        return len(self.own)

    def __iter__(self) -> Iterator[list[Place]]:
        for own, replayed in zip(self.own, self.replayed, strict=True):
            yield [*(Place(False, number) for number in own), *(Place(True, number) for number in replayed)]


@final
class BothSamples(Dataset[tuple[Place, Any]]):
    """Samples of both data sets together with their places.

    Args:
        own: samples of the phase's own data.
        replayed: samples of the replayed data.
    """

    def __init__(self, own: Dataset[Any], replayed: Dataset[Any]) -> None:
        self.own, self.replayed = own, replayed

    def __getitem__(self, place: Place) -> tuple[Place, Any]:
        return place, (self.replayed if place.replayed else self.own)[place.number]


@final
class CollateBoth:
    """Makes the phase's own batch, which carries the replayed one.

    Args:
        own: makes a batch of the phase's own samples.
        replayed: makes a batch of the replayed ones.
    """

    def __init__(self, own: Callable[[Any], Batch], replayed: Callable[[Any], Batch]) -> None:
        self.own, self.replayed = own, replayed

    def __call__(self, samples: list[tuple[Place, Any]]) -> Batch:
        own = self.own([(place.number, sample) for place, sample in samples if not place.replayed])
        replayed = self.replayed([(place.number, sample) for place, sample in samples if place.replayed])
        return replace(own, replay=replayed)
