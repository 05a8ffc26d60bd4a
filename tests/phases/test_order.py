"""Which samples make which batch."""

from __future__ import annotations

from phi3kit.phases.order import BatchOrder


def test_every_sample_once_per_epoch_in_a_new_order_each() -> None:
    order = BatchOrder(samples=10, batch_size=3, batches=20, seed=1)
    stream = [n for batch in order for n in batch]
    epochs = [stream[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_a_resumed_order_goes_on_where_it_was() -> None:
    whole = list(BatchOrder(7, 2, 12, seed=3))
    for consumed in range(13):
        assert list(BatchOrder(7, 2, 12, seed=3, consumed=consumed)) == whole[consumed:]


def test_ranks_share_each_global_batch() -> None:
    one = list(BatchOrder(24, 4, 6, seed=5))
    two = [list(BatchOrder(24, 2, 6, seed=5, rank=rank, world_size=2)) for rank in range(2)]
    assert one == [a + b for a, b in zip(*two, strict=True)]


def test_length_is_the_whole_runs_also_when_resumed() -> None:
    assert len(BatchOrder(7, 2, 12, consumed=5)) == 12
