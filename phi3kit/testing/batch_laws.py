"""Laws of `Batches`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from phi3kit.families import Tokenizer
from phi3kit.records import Batch
from phi3kit.testing.law import require

if TYPE_CHECKING:
    from phi3kit.phases import Batches

STEPS = 6
IGNORED, PADDING = -100, -1  # see records.Batch


def check_batches(build: Callable[[Tokenizer], Batches], tokenizer: Tokenizer) -> None:
    """Batch n is the same whatever came before, with any number of workers; every batch is well formed.

    Args:
        build: makes the data module around a tokenizer, shuffling with some seed.
        tokenizer: the one its data was made with.
    """
    first = _train(build(tokenizer), 0)
    law = "batch n is the same whatever came before, with any number of workers"
    _same(_train(build(tokenizer), 0), first, law, "a new data module")
    for start in (1, STEPS - 1):
        _same(_train(build(tokenizer), start), first[start:], law, f"resumed after batch {start}")
    workers = build(tokenizer)
    workers.num_workers = 2
    _same(_train(workers, 2), first[2:], law, "resumed after batch 2 with two workers")
    heldout = list(build(tokenizer).heldout_loader())
    _same(list(build(tokenizer).heldout_loader()), heldout, "held-out batches are always the same", "read twice")
    require(bool(heldout), "there is held-out data", "no batch of it")
    for batch in (*first, *heldout):
        _is_well_formed(batch, tokenizer.vocab_size)


def _train(batches: Batches, consumed: int) -> list[Batch]:
    """The batches of a run of some steps that goes on after some of them."""
    import lightning

    batches.trainer = lightning.Trainer(
        max_steps=STEPS, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False
    )
    batches.load_state_dict({"consumed": consumed, "tokenizer": batches.tokenizer.fingerprint})
    return list(batches.train_dataloader())


def _same(got: Sequence[Batch], wanted: Sequence[Batch], law: str, where: str) -> None:
    require(len(got) == len(wanted), law, f"{where}: {len(got)} batches, not {len(wanted)}")
    for n, (one, other) in enumerate(zip(got, wanted, strict=True)):
        same = one.samples == other.samples and all(
            torch.equal(getattr(one, name), getattr(other, name))
            for name in ("tokens_BT", "labels_BT", "positions_BT", "documents_BT")
        )
        same = same and _same_pictures(one, other)
        require(same, law, f"{where}: batch {n} from there has samples {one.samples}, not {other.samples}")


def _same_pictures(one: Batch, other: Batch) -> bool:
    if one.pictures is None or other.pictures is None:
        return one.pictures is other.pictures
    same = one.pictures.grids == other.pictures.grids
    return same and torch.equal(one.pictures.pixels_VCYX, other.pictures.pixels_VCYX)


def _is_well_formed(batch: Batch, vocab_size: int) -> None:
    tokens_BT, labels_BT = batch.tokens_BT, batch.labels_BT
    shapes = {tuple(t.shape) for t in (tokens_BT, labels_BT, batch.positions_BT, batch.documents_BT)}
    require(len(shapes) == 1, "the tensors of a batch are all [B, T]", f"shapes {sorted(shapes)}")
    image_BT = tokens_BT < 0
    require(
        bool((tokens_BT < vocab_size).all()), "token ids are below vocab_size", f"there is a {int(tokens_BT.max())}"
    )
    law = "negative ids stand where images are"
    require(bool(image_BT.any()) == (batch.pictures is not None), law, f"{int(image_BT.sum())} are negative")
    supervised_BT = labels_BT != IGNORED
    pictured = int((supervised_BT & (image_BT | (labels_BT < 0))).sum())
    require(pictured == 0, "no loss falls on the rows of an image", f"{pictured} of them carry loss")
    require(bool(supervised_BT.any()), "some token of a batch carries loss", f"none in samples {batch.samples}")
    padded = int((supervised_BT & (batch.documents_BT == PADDING)).sum())
    require(padded == 0, "padding carries no loss", f"{padded} padded positions do")
    inner_BT = supervised_BT[:, :-1] & (batch.documents_BT[:, 1:] == batch.documents_BT[:, :-1])
    wrong = int((labels_BT[:, :-1] != tokens_BT[:, 1:])[inner_BT].sum())
    require(wrong == 0, "a label is the next token of its document", f"{wrong} are not")
    same_BT = (batch.documents_BT[:, 1:] == batch.documents_BT[:, :-1]) & (batch.documents_BT[:, 1:] != PADDING)
    step_BT = batch.positions_BT[:, 1:] - batch.positions_BT[:, :-1]
    skips = int((step_BT != 1)[same_BT].sum())
    require(skips == 0, "positions count on within a document", f"{skips} do not")
    began_BT = ~same_BT & (batch.documents_BT[:, 1:] != PADDING)
    late = int((batch.positions_BT[:, 1:] != 0)[began_BT].sum() + (batch.positions_BT[:, 0] != 0).sum())
    require(late == 0, "positions begin at 0 with every document", f"{late} do not")
