"""Questions with one right answer, asked of a net in PyTorch and of a program alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.measures import exact_match
from phi3kit.model import Decoder, GrowingCache
from phi3kit.model.engine import Engine, NetEngine
from phi3kit.records import Conversation
from phi3kit.text.template import render, stop_ids

ROWS = 128  # prompts of equal length answered at once
SPARE = 4  # tokens more than the right answer has; a longer answer is wrong anyway


@dataclass(frozen=True)
class Question:
    """A prompt, and the text it must be answered with."""

    prompt: list[int]
    expected: str
    limit: int


def questions(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> list[Question]:
    """The last assistant turn of each conversation, to be generated from what comes before it alone."""
    found = []
    for conversation in conversations:
        messages = list(conversation.messages)
        while messages and messages[-1].role != "assistant":
            messages.pop()
        if len(messages) < 2:
            raise UserError(f"conversation {conversation.id!r} has no answered question; it cannot be scored")
        prompt = render(messages[:-1], tokenizer, generation=True).ids
        limit = len(tokenizer.encode(messages[-1].content)) + 1 + SPARE
        found.append(Question(prompt, messages[-1].content, limit))
    return found


def share_of_net(net: Decoder, asked: Sequence[Question], tokenizer: Tokenizer) -> float:
    """Share of questions a net in PyTorch answers exactly, greedily, many at once."""
    return _share(answers_of_net(net, asked, stop_ids(tokenizer)), asked, tokenizer)


def share_of_engine(engine: Engine, asked: Sequence[Question], tokenizer: Tokenizer) -> float:
    """Share of questions an engine answers exactly, greedily, each from a fresh start."""
    answers = []
    for question in asked:
        engine.reset()
        answers.append(_answer(engine, question, stop_ids(tokenizer)))
    return _share(answers, asked, tokenizer)


def answers_of_net(net: Decoder, asked: Sequence[Question], stops: Sequence[int]) -> list[list[int]]:
    """Greedy answers, in the order asked; prompts of equal length share their forward passes."""
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, question in enumerate(asked):
        length, end = len(question.prompt), len(question.prompt) + question.limit
        groups[length, net.position.table_for(length) != net.position.table_for(end)].append(number)
    answers: dict[int, list[int]] = {}
    for (_, switches), numbers in groups.items():
        for start in range(0, len(numbers), ROWS):
            some = numbers[start : start + ROWS]
            if switches:  # LongRoPE's: the engine rebuilds its cache there
                found = [_answer(NetEngine(net), asked[number], stops) for number in some]
            else:
                found = _together(net, [asked[number] for number in some], stops)
            answers.update(zip(some, found, strict=True))
    return [answers[number] for number in range(len(asked))]


def _answer(engine: Engine, question: Question, stops: Sequence[int]) -> list[int]:
    return list(engine.answer(question.prompt, stop_ids=stops, max_new_tokens=question.limit))


@torch.inference_mode()
def _together(net: Decoder, asked: Sequence[Question], stops: Sequence[int]) -> list[list[int]]:
    """Greedy answers to prompts of one length."""
    device = net.embed_tokens.weight.device
    tokens_BT = torch.tensor([question.prompt for question in asked], device=device)
    stops_S = torch.tensor(list(stops), device=device)
    cache = GrowingCache(net.dims.n_layers)
    stopped_B = torch.zeros(len(asked), dtype=torch.bool, device=device)
    steps: list[Tensor] = []
    for _ in range(max(question.limit for question in asked)):
        best_B = net.logits(net.hidden(tokens_BT, cache=cache)[:, -1]).argmax(-1)
        steps.append(best_B)
        stopped_B |= torch.isin(best_B, stops_S)
        if stopped_B.all():
            break
        tokens_BT = best_B[:, None]
    rows = torch.stack(steps, dim=1).tolist()
    return [_until_stop(row[: question.limit], stops) for row, question in zip(rows, asked, strict=True)]


def _until_stop(ids: list[int], stops: Sequence[int]) -> list[int]:
    end = next((i + 1 for i, id in enumerate(ids) if id in stops), len(ids))
    return ids[:end]


def _share(answers: Sequence[list[int]], asked: Sequence[Question], tokenizer: Tokenizer) -> float:
    """An answer counts only if it ended by itself."""
    stops = stop_ids(tokenizer)
    texts = [tokenizer.decode(ids[:-1]) if ids and ids[-1] in stops else "\0 cut short" for ids in answers]
    return exact_match(texts, [question.expected for question in asked])
