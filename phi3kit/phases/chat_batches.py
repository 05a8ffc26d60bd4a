"""Batches out of conversations and preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from torch.utils.data import Dataset

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.phases.batches import END_OF_DOCUMENT, Batches
from phi3kit.phases.collate import Supervised, pack, packed_batch
from phi3kit.records import Batch, Message
from phi3kit.text.chat_files import read_conversations, read_preferences
from phi3kit.text.template import render


@final
class ConversationBatches(Batches):
    """Chats packed into rows; the loss falls on assistant turns, their closing ``<|end|>`` included.

    Args:
        tokenizer: the net's.
        train: a JSONL or Parquet file of ``messages``.
        heldout: the same, never trained on.
        context: tokens per row; longer conversations are cut at the end.
        batch_size: rows per batch and device.
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
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context = context

    def samples(self, part: str) -> Dataset[Any]:
        conversations = read_conversations(self.files[part])
        sequences = [supervised(c.messages, self.tokenizer, self.context) for c in conversations]
        sequences = [s for s in sequences if any(s.supervised)]
        if not sequences:
            raise UserError(f"{self.files[part]} holds no assistant turn within {self.context} tokens")
        rows = pack([len(s.ids) for s in sequences], self.context)
        return [[sequences[n] for n in row] for row in rows]  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = self.tokenizer.special_tokens[END_OF_DOCUMENT]
        return packed_batch([row for _, row in samples], padding, [number for number, _ in samples])


@final
class PreferenceBatches(Batches):
    """Pairs of answers: row 2i is the chosen one, row 2i + 1 the rejected one.

    Args:
        tokenizer: the net's.
        train: a JSONL or Parquet file of ``prompt``, ``chosen``, ``rejected``.
        heldout: the same, never trained on.
        context: longest prompt and answer together, in tokens; longer pairs are left out.
        batch_size: pairs per batch and device.
        num_workers: processes that load ahead; 0 loads in the training process.
        seed: of the shuffles.
        heldout_batches: how many batches of held-out data make one evaluation; null means all.
    """

    gives = "pairs"

    def __init__(
        self,
        tokenizer: Tokenizer,
        train: Path,
        heldout: Path,
        context: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        heldout_batches: int | None = None,
    ) -> None:
        super().__init__(tokenizer, batch_size, num_workers, seed, heldout_batches)
        self.files = {"train": Path(train), "heldout": Path(heldout)}
        self.context = context

    def samples(self, part: str) -> Dataset[Any]:
        pairs = []
        for preference in read_preferences(self.files[part]):
            pair = [
                answer_only(preference.prompt, answer, self.tokenizer)
                for answer in (preference.chosen, preference.rejected)
            ]
            if max(len(s.ids) for s in pair) <= self.context:
                pairs.append(pair)
        if not pairs:
            raise UserError(f"{self.files[part]} holds no pair within {self.context} tokens")
        return pairs  # type: ignore[return-value]

    def collate(self, samples: list[tuple[int, Any]]) -> Batch:
        padding = self.tokenizer.special_tokens[END_OF_DOCUMENT]
        rows = [[sequence] for _, pair in samples for sequence in pair]
        return packed_batch(rows, padding, [number for number, _ in samples])


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
