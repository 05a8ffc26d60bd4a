"""``phi3kit preview``: a training recipe's batch as the model sees it, tokens coloured by whether they carry loss.

Give it a recipe of `fit`. It needs the data and the tokenizer, no weights.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.verbs import fit

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from rich.text import Text

    from phi3kit.families import Tokenizer
    from phi3kit.phases.batches import Batches
    from phi3kit.records import Batch

LOSS, NO_LOSS = ("black on green", "black on bright_green"), ("dim", "")  # by turns: token borders stay visible
LEGEND = "with loss", "without; where there is no colour, «guillemets» hold what carries loss"


def declare(parser: ArgumentParser) -> None:
    """A training recipe's keys, and what to show."""
    fit.declare(parser)
    parser.add_argument("--part", type=Literal["train", "heldout"], default="train", help="of the data")
    parser.add_argument("--batch", type=int, default=0, help="which batch of the run, counted from 0")
    parser.add_argument("--rows", type=int, default=2, help="rows of it to show at most")


def main(arguments: list[str]) -> int:
    """Run the verb."""
    from rich.console import Console
    from rich.text import Text

    recipe = recipes.read("fit", declare, arguments, __doc__ or "", "preview")
    config = recipe.config
    if config.data is None:
        raise UserError("the recipe lacks data; give a recipe of `phi3kit fit`")
    tokenizer = _tokenizer(config)
    data = recipe.instantiate().data(tokenizer)
    shown = batch_of(data, config.part, config.batch)
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((LEGEND[0], LOSS[0]), "  ", (LEGEND[1], NO_LOSS[0])))
    for row in range(min(config.rows, len(shown.tokens_BT))):
        console.print(_heading(shown, row), style="bold")
        for text in documents(shown, row, tokenizer, colour=console.color_system is not None):
            console.print(text)
    return 0


def _tokenizer(config: Namespace) -> Tokenizer:
    from phi3kit.text import tokenizer_going_on

    inherited = Path(config.start_from) / "tokenizer" if config.start_from else None
    source = config.tokenizer or inherited
    if source is None:
        raise UserError("the recipe lacks tokenizer: a folder that `phi3kit prepare` or another run wrote")
    made = inherited is not None and inherited.is_dir()  # the run before need not be there yet
    return tokenizer_going_on(Path(source), inherited if made else None)


def batch_of(data: Batches, part: str, number: int) -> Batch:
    """Batch `number`: of "train", as a run on one device sees it; of "heldout", in the data's order."""
    from phi3kit.phases.order import BatchOrder

    samples = data.samples(part)
    n_samples = len(samples)  # type: ignore[arg-type]
    if part == "train":
        chosen = BatchOrder(n_samples, data.batch_size, number + 1, data.seed).batch(number)
    else:
        chosen = list(range(n_samples))[number * data.batch_size : (number + 1) * data.batch_size]
    if number < 0 or not chosen:
        raise UserError(f"there is no batch {number} of {part}: {n_samples} samples make {data.batch_size} a batch")
    return data.collate([(sample, samples[sample]) for sample in chosen])


def _heading(batch: Batch, row: int) -> str:
    n_loss = int((batch.labels_BT[row] != -100).sum())
    n_tokens = int((batch.documents_BT[row] >= 0).sum())
    return f"\nrow {row}: {n_tokens} tokens, {n_loss} carry loss"


def documents(batch: Batch, row: int, tokenizer: Tokenizer, *, colour: bool) -> Iterator[Text]:
    """Each document of a row, its number in front. Padding is left out."""
    from rich.text import Text

    tokens, labels, numbers = (t[row].tolist() for t in (batch.tokens_BT, batch.labels_BT, batch.documents_BT))
    for number in sorted(set(numbers) - {-1}):
        places = [place for place, of in enumerate(numbers) if of == number]
        ids = [tokens[place] for place in places]
        learns = [False, *(labels[place] != -100 for place in places)]
        if learns[-1]:  # the last position's label has no position of its own
            ids.append(labels[places[-1]])
        text = Text(f"[{number}] ", style="bold")
        before = False
        for turn, (piece, has_loss) in enumerate(zip(pieces(ids, tokenizer), learns, strict=False)):
            if not colour and has_loss != before:
                text.append("«" if has_loss else "»")
            text.append(piece, style=(LOSS if has_loss else NO_LOSS)[turn % 2])
            before = has_loss
        yield text if colour or not before else text.append("»")


def pieces(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    """Text that each id adds to the ids before it; newlines and control characters made visible.

    A character of several ids appears with its last one, an image with its first row.
    """
    found = []
    for image, run in itertools.groupby(ids, key=lambda id: min(id, 0)):
        stretch = list(run)
        found += _rows(-image, len(stretch)) if image else _text_pieces(stretch, tokenizer)
    return found


def _rows(image: int, count: int) -> list[str]:
    return [f"[image {image}: {count} rows]", *[""] * (count - 1)]


def _text_pieces(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    found, done = [], ""
    for n in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:n])
        whole = text if n == len(ids) else text.rstrip("\ufffd")
        found.append(_visible(whole[len(done) :]))
        done = whole if len(whole) > len(done) else done
    return found


def _visible(text: str) -> str:
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]", "\ufffd", text).replace("\n", "↵\n")
