"""Text of an answer while its ids come.

What an id says depends on what is before it: a Llama-style decoder drops the first space of a text, and a character's
bytes may be several ids. So an answer's text is what the text of *prompt and answer* has more than the prompt's. The
last piece stands for all that was before the new ids, so that long answers stay fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from phi3kit.families import Tokenizer

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what decoders write for bytes that are no character, or not yet


def stream(ids: Iterable[int], tokenizer: Tokenizer, prompt: Sequence[int] | None = None) -> Iterator[str]:
    """Text of ids as they come; a character whose bytes are still incomplete waits for the rest.

    Args:
        ids: the answer.
        tokenizer: what decodes them.
        prompt: what is before the answer; None: some text, which the answer continues.
    """
    before = tokenizer.encode("a") if prompt is None else list(prompt)
    lead = _lead(before, tokenizer)
    before, new = _divided(before, tokenizer)
    broken = added(before, new, tokenizer)  # the prompt's, if nothing completes it
    for id in ids:
        new.append(id)
        piece = added(before, new, tokenizer).removeprefix(lead).removeprefix(broken)
        if piece and not piece.endswith(INCOMPLETE):
            yield piece
            before, new, lead, broken = new, [], "", ""
    if rest := added(before, new, tokenizer).removeprefix(lead).removeprefix(broken):
        yield rest


def added(before: Sequence[int], new: Sequence[int], tokenizer: Tokenizer) -> str:
    """What `new` adds to the text of `before`, which is of whole characters."""
    said, whole = tokenizer.decode(before), tokenizer.decode([*before, *new])
    if whole.startswith(said):
        return whole[len(said) :]
    return tokenizer.decode(new)  # one byte that is no character makes others before it none, to some decoders


def _divided(prompt: list[int], tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """A prompt up to its last whole character, and the ids that begin another: three bytes, if each is one, at most."""
    for whole in range(len(prompt), max(len(prompt) - 4, -1), -1):
        if not tokenizer.decode(prompt[:whole]).endswith(INCOMPLETE):
            return prompt[:whole], prompt[whole:]
    return prompt, []


def _lead(before: Sequence[int], tokenizer: Tokenizer) -> str:
    """The space that a device's decoder, which sees one id at a time, keeps where a text begins."""
    if before and before[-1] not in tokenizer.template_tokens.values():
        return ""
    first = tokenizer.encode_after("a") if before else tokenizer.encode("a")
    return " " if added(before[-1:], first, tokenizer) == " a" else ""
