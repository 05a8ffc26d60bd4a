"""Batches out of conversations about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, final

from torch.utils.data import Dataset

from phi3kit import Batch, Conversation, UserError
from phi3kit.bounds import AtLeastOne, AtLeastTwo, NotNegative
from phi3kit.families import Tokenizer
from phi3kit.phases import Batches
from phi3kit.phases.collate import pack
from phi3kit.phases.row_source import RowSource, counts_of, told, used
from phi3kit.text.chat_files import conversations_of
from phi3kit.text.chat_shapes import Dialect
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.prompt import render_pictured
from phi3kit_vision.rows import NOTHING_FITS, Pictured, fitting, lengths_of, pictured, pictured_batch


@final
class ImageConversationBatches(Batches):
    """Chats about images, and others, packed into rows; the loss falls on assistant turns, never on an image.

    A row of the files: ``{"messages": [...], "images": ["a.png", ...]}``. ``<|image_1|>`` in a user turn is where the
    first of the images stands, and so on (or each ``<image>`` is the next one); paths are relative to the file.

    Args:
        tokenizer: the net's.
        train: chats, a JSONL, JSON or Parquet file or a folder of them, each with its ``images``.
        heldout: the same, never trained on; null: a share of `train` is held out.
        context: tokens per row, image rows included; longer chats are cut at the end, and left out where that would
            cut an image.
        batch_size: rows per batch and device.
        crops: the most crops of one image: 16 for single images, 4 for several (Phi-3.5-vision's model card).
        view: side of a view, in pixels; the net's `vision` must have the same.
        patch: side of a patch, in pixels; the net's `vision` must have the same.
        bos_after_image: the token that opens a conversation also follows each image, as in the public processor.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles, and of the share that is held out.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
        holdout: share of `train` to hold out where there is no `heldout` and no row says so in its split.
        unreadable: "skip" leaves out rows that cannot be used, or their images, and counts them; "stop" ends there.
        role_map: roles of one's own: ``{bot: assistant}``.
        fields: fields of one's own, by the names known here: ``{messages: dialogue, images: photos}``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path | None = None,
        *,
        context: AtLeastTwo,
        batch_size: AtLeastOne,
        crops: AtLeastOne = 16,
        view: AtLeastOne = 336,
        patch: AtLeastOne = 14,
        bos_after_image: bool = False,
        num_workers: NotNegative = 0,
        seed: NotNegative = 0,
        heldout_batches: AtLeastOne | None = None,
        holdout: float = 0.05,
        unreadable: Literal["skip", "stop"] = "skip",
        role_map: dict[str, str] | None = None,
        fields: dict[str, str | None] | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        dialect = Dialect(role_map, fields)
        self.source = RowSource(conversations_of, train, heldout, holdout, seed, unreadable, dialect)
        self.context, self.bos_after_image = context, bos_after_image
        self.hd = HDTransform(crops, view, patch)
        self._rows: dict[str, list[list[Pictured]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._rows:
            given = self.source.part(part)
            fitted = fitting(given.file, used(given, lambda chat: self.text(chat, given.file)), self.context)
            self.tell(part, counts_of(given, **fitted.lost), told(given, fitted.line))
            if not fitted.texts:
                raise UserError(f"{given.file} {NOTHING_FITS.format(self.context)}")
            rows = pack([len(one.text.ids) for one in fitted.texts], self.context)
            self._rows[part] = [[fitted.texts[number] for number in row] for row in rows]
        return self._rows[part]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        return pictured_batch([row for _, row in samples], self.tokenizer, [n for n, _ in samples], self.hd)

    def text(self, chat: Conversation, file: Path) -> Pictured:
        """A conversation of a file as ids. Raises `UserError`."""
        images = [file.parent / name for name in chat.images]
        lengths = lengths_of(images, self.hd)
        prompt = render_pictured(chat.messages, lengths, self.tokenizer, bos_after_image=self.bos_after_image)
        return pictured(prompt, images)
