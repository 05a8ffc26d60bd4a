"""Batches out of texts with images: pairs of image and caption, interleaved documents, plain texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, final

from torch.utils.data import Dataset

from phi3kit import Batch, UserError
from phi3kit.bounds import AtLeastOne, AtLeastTwo, NotNegative
from phi3kit.families import Tokenizer
from phi3kit.phases import Batches
from phi3kit.text.chat_tally import Tally
from phi3kit.text.row_files import Broken, rows_at
from phi3kit.text.template import end_of_text_id
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.prompt import Prompt, encode_pictured, image_order
from phi3kit_vision.rows import NOTHING_FITS, Pictured, fitting, lengths_of, next_fit, pictured, pictured_batch

SHAPES = '{"image": "a.png", "text": "a caption"} or {"images": ["a.png", ...], "text": "... <|image_1|> ..."}'


@final
class ImageTextBatches(Batches):
    """Documents with images packed into rows, for pretraining: the loss falls on all text, never on an image.

    A row of the files: ``{"image": "a.png", "text": "a caption"}`` puts the image before the caption;
    ``{"images": [...], "text": "..."}`` puts the k-th image where ``<|image_k|>`` stands; without images it is a
    text. Paths are relative to the file. A document ends with ``<|endoftext|>``.

    Args:
        tokenizer: the net's.
        train: a JSONL, JSON or Parquet file of ``text`` and ``image`` or ``images``, or a folder of them.
        heldout: the same, never trained on.
        context: tokens per row, image rows included; longer documents are cut at the end, and left out where that
            would cut an image.
        batch_size: rows per batch and device.
        crops: the most crops of one image.
        view: side of a view, in pixels; the net's `vision` must have the same.
        patch: side of a patch, in pixels; the net's `vision` must have the same.
        bos_after_image: the token that opens a document also follows each image, as in the public processor.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles, which documents share a row included.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
        unreadable: "skip" leaves out rows that cannot be used, or their images, and counts them; "stop" ends there.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path,
        context: AtLeastTwo,
        batch_size: AtLeastOne,
        crops: AtLeastOne = 16,
        view: AtLeastOne = 336,
        patch: AtLeastOne = 14,
        bos_after_image: bool = False,
        num_workers: NotNegative = 0,
        seed: NotNegative = 0,
        heldout_batches: AtLeastOne | None = None,
        unreadable: Literal["skip", "stop"] = "skip",
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context, self.bos_after_image, self.unreadable = context, bos_after_image, unreadable
        self.hd = HDTransform(crops, view, patch)
        self._rows: dict[str, list[list[Pictured]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._rows:
            file = self.files[part]
            tally = Tally(file, self.unreadable)
            fitted = fitting(file, list(self._documents(file, tally)), self.context)
            counts = {"rows": tally.rows, "unreadable": tally.bad, **fitted.lost}
            self.tell(part, counts, "\nphi3kit: ".join(filter(None, (tally.told(), fitted.line))))
            if not fitted.texts:
                raise UserError(f"{file} {NOTHING_FITS.format(self.context)}")
            rows = next_fit([len(one.text.ids) for one in fitted.texts], self.context, self.seed)
            self._rows[part] = [[fitted.texts[number] for number in row] for row in rows]
        return self._rows[part]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        return pictured_batch([row for _, row in samples], self.tokenizer, [n for n, _ in samples], self.hd)

    def _documents(self, path: Path, tally: Tally) -> Iterator[Pictured]:
        """The rows of a file or folder as ids, those counted that cannot be used."""
        for place, row, file in rows_at(path):
            tally.rows += 1
            try:
                yield self.document(row, file)
            except UserError as error:
                tally.refuse(place, str(error))
        tally.check()

    def document(self, row: Any, file: Path) -> Pictured:
        """A row of a file as ids. Raises `UserError`."""
        text, names = text_and_images(row)
        images = [file.parent / name for name in names]
        order = image_order([text], len(images))
        lengths = lengths_of(images, self.hd)
        ids = list(encode_pictured(text, lengths, self.tokenizer, self.bos_after_image, alone=True))
        special = self.tokenizer.special_tokens
        first = [] if self.tokenizer.opens_with is None else [special[self.tokenizer.opens_with]]
        ids = [*first, *ids, end_of_text_id(self.tokenizer)]
        return pictured(Prompt(ids, [id >= 0 for id in ids], order), images)


def text_and_images(row: Any) -> tuple[str, list[str]]:
    """The text of a row, with tags, and its images. Raises `UserError` where it is of another shape."""
    if isinstance(row, Broken):
        raise UserError(row.reason)
    if not isinstance(row, dict):
        raise UserError(f"unknown shape; accepted: {SHAPES}")
    text, images = row.get("text"), row.get("images") or []
    if row.get("image") is not None and not images:
        images = [row["image"]]
        text = f"<|image_1|>\n{text}" if isinstance(text, str) else text
    if not isinstance(text, str) or not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise UserError(f"unknown shape, with keys {sorted(row)}; accepted: {SHAPES}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError("text is not Unicode: it holds half of a character (a lone surrogate)")
    return text, images
