"""Batches out of conversations and preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, final

from torch.utils.data import Dataset

from phi3kit.bounds import AtLeastOne, AtLeastTwo, NotNegative
from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.phases.batches import Batches
from phi3kit.phases.collate import Supervised, pack, packed_batch
from phi3kit.phases.row_source import RowSource, counts_of, told, used
from phi3kit.records import Batch, Conversation, Message, Preference
from phi3kit.text.chat_files import conversations_of, preferences_of
from phi3kit.text.chat_shapes import Dialect
from phi3kit.text.template import end_of_text_id, render


@final
class ConversationBatches(Batches):
    """Chats packed into rows; the loss falls on assistant turns, their closing ``<|end|>`` included, but for turns of
    weight 0.

    Args:
        tokenizer: the net's.
        train: chats, a JSONL, JSON or Parquet file or a folder of them; OpenAI's, ShareGPT's, Alpaca's, TRL's shapes.
        heldout: the same, never trained on; null: a share of `train` is held out.
        context: tokens per row; longer conversations are cut at the end.
        batch_size: rows per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles, and of the share that is held out.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
        holdout: share of `train` to hold out where there is no `heldout` and no row says so in its split.
        unreadable: "skip" leaves out rows that cannot be used and counts them, "stop" ends at the first.
        role_map: roles of one's own: ``{bot: assistant}``.
        fields: fields of one's own, by the names known here: ``{messages: dialogue, content: said}``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path | None = None,
        *,
        context: AtLeastTwo,
        batch_size: AtLeastOne,
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
        self.context = context
        self._rows: dict[str, list[list[Supervised]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._rows:
            self._rows[part] = self._read(part)
        return self._rows[part]  # type: ignore[return-value]

    def _read(self, part: str) -> list[list[Supervised]]:
        given = self.source.part(part)
        whole = used(given, self._whole)
        cut = [Supervised(s.ids[: self.context], s.supervised[: self.context]) for s in whole]
        sequences = [sequence for sequence in cut if any(sequence.supervised)]
        long = sum(len(s.ids) > self.context for s in whole)
        left_out = len(whole) - len(sequences)
        self.tell(
            part,
            counts_of(given, cut=long - left_out, left_out=left_out),
            told(
                given,
                long
                and f"{given.file}: {long} of {len(whole)} conversations are longer than {self.context} tokens: "
                f"{long - left_out} cut at the end, {left_out} left out because no answer begins before it",
            ),
        )
        if not sequences:
            raise UserError(f"{given.file} holds no assistant turn within {self.context} tokens")
        rows = pack([len(s.ids) for s in sequences], self.context)
        return [[sequences[n] for n in row] for row in rows]

    def _whole(self, conversation: Conversation) -> Supervised:
        refuse_images(conversation)
        rendered = render(conversation.messages, self.tokenizer)
        return Supervised(rendered.ids, rendered.supervised)

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = end_of_text_id(self.tokenizer)
        return packed_batch([row for _, row in samples], padding, [number for number, _ in samples])


@final
class PreferenceBatches(Batches):
    """Pairs of answers: row 2i is the chosen one, row 2i + 1 the rejected one.

    Args:
        tokenizer: the net's.
        train: pairs, a JSONL, JSON or Parquet file or a folder of them: ``prompt``, ``chosen``, ``rejected``, each a
            text or turns; the answers may hold the prompt.
        heldout: the same, never trained on; null: a share of `train` is held out.
        context: longest prompt and answer together, in tokens; longer pairs are left out.
        batch_size: pairs per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles, and of the share that is held out.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
        holdout: share of `train` to hold out where there is no `heldout` and no row says so in its split.
        unreadable: "skip" leaves out rows that cannot be used and counts them, "stop" ends at the first.
        role_map: roles of one's own: ``{bot: assistant}``.
        fields: fields of one's own, by the names known here: ``{chosen: better, rejected: worse}``.
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
        self.context = context
        self._pairs: dict[str, list[list[Supervised]]] = {}

    def samples(self, part: str) -> Dataset[Any]:
        if part not in self._pairs:
            self._pairs[part] = self._read(part)
        return self._pairs[part]  # type: ignore[return-value]

    def _read(self, part: str) -> list[list[Supervised]]:
        given = self.source.part(part)
        pairs = used(given, self._pair)
        kept = [pair for pair in pairs if max(len(s.ids) for s in pair) <= self.context]
        long = len(pairs) - len(kept)
        self.tell(
            part,
            counts_of(given, left_out=long),
            told(
                given,
                long and f"{given.file}: {long} of {len(pairs)} pairs are longer than {self.context} tokens: left out",
            ),
        )
        if not kept:
            raise UserError(f"{given.file} holds no pair within {self.context} tokens")
        return kept

    def _pair(self, preference: Preference) -> list[Supervised]:
        refuse_images(preference)
        answers = (preference.chosen, preference.rejected)
        pair = [answer_only(preference.prompt, answer, self.tokenizer) for answer in answers]
        if pair[0].ids == pair[1].ids:
            raise UserError("chosen and rejected are the same tokens")
        return pair

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = end_of_text_id(self.tokenizer)
        rows = [[sequence] for _, pair in samples for sequence in pair]
        return packed_batch(rows, padding, [number for number, _ in samples])


def refuse_images(row: Conversation | Preference) -> None:
    """Raise `UserError` where a row shows images, which text alone cannot stand for."""
    if row.images:
        raise UserError(
            "the row has images; ImageConversationBatches or ImagePreferenceBatches (phi3kit-vision) take them"
        )


def supervised(messages: tuple[Message, ...], tokenizer: Tokenizer, context: int) -> Supervised:
    """A conversation as ids, cut to `context`, with the loss on its assistant turns."""
    rendered = render(messages, tokenizer)
    return Supervised(rendered.ids[:context], rendered.supervised[:context])


def answer_only(prompt: tuple[Message, ...], answer: tuple[Message, ...], tokenizer: Tokenizer) -> Supervised:
    """Prompt and answer as ids, with the loss on the answer alone (earlier assistant turns are prompt)."""
    rendered = render((*prompt, *answer), tokenizer)
    prefix = len(render(prompt, tokenizer).ids)
    wanted = [False] * prefix + rendered.supervised[prefix:]
    return Supervised(rendered.ids, wanted)
