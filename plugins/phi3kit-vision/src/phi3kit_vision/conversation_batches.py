"""Batches out of conversations about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from torch.utils.data import Dataset

from phi3kit import Batch, Conversation, UserError
from phi3kit.families import Tokenizer
from phi3kit.phases import Batches
from phi3kit.phases.collate import pack
from phi3kit.text import read_conversations
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.prompt import render_pictured
from phi3kit_vision.rows import Pictured, fitting, lengths_of, pictured, pictured_batch


@final
class ImageConversationBatches(Batches):
    """Chats about images, and others, packed into rows; the loss falls on assistant turns, never on an image.

    A row of the files: ``{"messages": [...], "images": ["a.png", ...]}``. ``<|image_1|>`` in a user turn is where the
    first of the images stands, and so on; paths are relative to the file.

    Args:
        tokenizer: the net's.
        train: a JSONL or Parquet file of ``messages`` and ``images``.
        heldout: the same, never trained on.
        context: tokens per row, image rows included; longer chats are cut at the end, and left out where that would
            cut an image.
        batch_size: rows per batch and device.
        crops: the most crops of one image: 16 for single images, 4 for several (Phi-3.5-vision's model card).
        view: side of a view, in pixels; the net's `vision` must have the same.
        patch: side of a patch, in pixels; the net's `vision` must have the same.
        bos_after_image: the token that opens a conversation also follows each image, as in the public processor.
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
        crops: int = 16,
        view: int = 336,
        patch: int = 14,
        bos_after_image: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context, self.bos_after_image = context, bos_after_image
        self.hd = HDTransform(crops, view, patch)
        self._rows: dict[str, list[list[Pictured]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._rows:
            file = self.files[part]
            texts = fitting(file, [self.text(chat, file) for chat in read_conversations(file)], self.context)
            rows = pack([len(one.text.ids) for one in texts], self.context)
            self._rows[part] = [[texts[number] for number in row] for row in rows]
        return self._rows[part]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        return pictured_batch([row for _, row in samples], self.tokenizer, [n for n, _ in samples], self.hd)

    def text(self, chat: Conversation, file: Path) -> Pictured:
        """A conversation of a file as ids. Raises `UserError` naming both."""
        images = [file.parent / name for name in chat.images]
        try:
            lengths = lengths_of(images, self.hd)
            prompt = render_pictured(chat.messages, lengths, self.tokenizer, bos_after_image=self.bos_after_image)
        except UserError as error:
            raise UserError(f"{file}, conversation {chat.id!r}: {error}") from error
        return pictured(prompt, images)
