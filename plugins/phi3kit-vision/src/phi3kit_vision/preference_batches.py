"""Batches out of preferences about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, final

from torch.utils.data import Dataset

from phi3kit import Batch, Preference, UserError
from phi3kit.bounds import AtLeastOne, AtLeastTwo, NotNegative
from phi3kit.families import Tokenizer
from phi3kit.phases import Batches
from phi3kit.phases.row_source import RowSource, counts_of, told, used
from phi3kit.records import Message
from phi3kit.text.chat_files import preferences_of
from phi3kit.text.chat_shapes import Dialect
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.prompt import Prompt, render_pictured
from phi3kit_vision.rows import NOTHING_FITS, Pictured, lengths_of, pictured, pictured_batch


@final
class ImagePreferenceBatches(Batches):
    """Pairs of answers about images: row 2i is the chosen one, row 2i + 1 the rejected one.

    A row of the files: ``{"prompt": ..., "chosen": ..., "rejected": ..., "images": ["a.png", ...]}``. ``<|image_1|>``
    in the prompt is where the first of the images stands, and so on; paths are relative to the file.

    Args:
        tokenizer: the net's.
        train: pairs, a JSONL, JSON or Parquet file or a folder of them, each with its ``images``.
        heldout: the same, never trained on; null: a share of `train` is held out.
        context: longest prompt and answer together, in tokens, image rows included; longer pairs are left out.
        batch_size: pairs per batch and device.
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

    gives = "pairs"

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
        self.source = RowSource(preferences_of, train, heldout, holdout, seed, unreadable, dialect)
        self.context, self.bos_after_image = context, bos_after_image
        self.hd = HDTransform(crops, view, patch)
        self._pairs: dict[str, list[list[Pictured]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._pairs:
            given = self.source.part(part)
            pairs = used(given, lambda preference: self.pair(preference, given.file))
            kept = [pair for pair in pairs if max(len(one.text.ids) for one in pair) <= self.context]
            long = len(pairs) - len(kept)
            line = f"{given.file}: {long} of {len(pairs)} are longer than {self.context} tokens: left out"
            self.tell(part, counts_of(given, left_out=long), told(given, long and line))
            if not kept:
                raise UserError(f"{given.file} {NOTHING_FITS.format(self.context)}")
            self._pairs[part] = kept
        return self._pairs[part]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        rows = [[one] for _, pair in samples for one in pair]
        return pictured_batch(rows, self.tokenizer, [n for n, _ in samples], self.hd)

    def pair(self, preference: Preference, file: Path) -> list[Pictured]:
        """The chosen and the rejected answer, each after the prompt. Raises `UserError`."""
        images = [file.parent / name for name in preference.images]
        lengths = lengths_of(images, self.hd)
        prefix = len(self.render(preference.prompt, lengths).ids)
        prompts = [
            answer_only(self.render((*preference.prompt, *answer), lengths), prefix)
            for answer in (preference.chosen, preference.rejected)
        ]
        if prompts[0].ids == prompts[1].ids:
            raise UserError("chosen and rejected are the same tokens")
        return [pictured(prompt, images) for prompt in prompts]

    def render(self, messages: tuple[Message, ...], lengths: list[int]) -> Prompt:
        """A conversation as ids."""
        return render_pictured(messages, lengths, self.tokenizer, bos_after_image=self.bos_after_image)


def answer_only(prompt: Prompt, prefix: int) -> Prompt:
    """The same with the loss on what follows the first `prefix` tokens (earlier assistant turns are prompt)."""
    return prompt._replace(supervised=[False] * prefix + prompt.supervised[prefix:])
