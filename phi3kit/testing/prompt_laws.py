"""Laws of `Prompt`: what is asked of a language model, and how its answer is read."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

from phi3kit.families import Prompt, Refusal, Seed
from phi3kit.records import Conversation, Document
from phi3kit.testing.corpus_laws import LONGEST_REASON, ODD_TEXTS
from phi3kit.testing.law import require

SEEDS = (
    Seed("topic/tides", "why tides come twice a day", "topic"),
    Seed("topic/levers", "how a lever trades force for distance", "topic"),
    Seed("page/1", "A lens bends light because glass slows it down.", "passage"),
    Seed("page/2", "Bread rises: yeast turns sugar into gas, and gluten holds it.", "passage"),
    Seed("problem/1", "A boat needs 3 hours for 12 km. How fast is it?", "problem", "4"),
    Seed("problem/2", "Seven boxes hold six eggs each. How many eggs is that?", "problem"),
)


def check_prompt(build: Callable[[], Prompt], good: Sequence[str] = ()) -> None:
    """Every law of `Prompt`.

    Args:
        build: makes the prompt.
        good: answers it must read something from, whatever the seed.
    """
    prompt = build()
    travelled = pickle.loads(pickle.dumps(prompt))
    seeds = [seed for seed in SEEDS if seed.kind in prompt.takes]
    require(bool(seeds), "a prompt takes topics, passages or problems", f"it takes {sorted(prompt.takes)}")
    version = prompt.version
    require(bool(version.strip()) and "\n" not in version, "a prompt has a version of one line", f"it is {version!r}")
    law = "the same wording is the same version"
    require(version == build().version == travelled.version, law, f"{version!r} became {build().version!r}")
    for seed in seeds:
        message = prompt.message(seed)
        require(seed.text in message, "the text of a seed is in its message", f"{seed.text!r} is not")
        law = "a prompt is pure: the same seed is always asked about in the same way"
        require(
            message == prompt.message(seed) == travelled.message(seed), law, f"{seed.id} is asked about in two ways"
        )
        for answer in [*ODD_TEXTS, *good]:
            _check_reading(prompt, travelled, seed, answer)
        for answer in good:
            said = prompt.read(seed, answer)
            require(not isinstance(said, Refusal), "a good answer is read", f"{answer[:40]!r} is refused: {said!r}")


def _check_reading(prompt: Prompt, travelled: Prompt, seed: Seed, answer: str) -> None:
    made = prompt.read(seed, answer)
    law = "a prompt is pure: the same answer is always read in the same way"
    require(made == prompt.read(seed, answer) == travelled.read(seed, answer), law, f"{answer[:30]!r} is read in two")
    if isinstance(made, Refusal):
        fits = made.reason.strip() and "\n" not in made.reason and len(made.reason) <= LONGEST_REASON
        require(bool(fits), "a refusal gives its reason in one short line", f"it is {made.reason!r}")
        return
    require(bool(answer.strip()), "an empty answer is refused", f"{answer!r} gave {made!r:.60}")
    require(bool(made), "an answer that holds nothing is refused with a reason", f"{answer[:30]!r} gave nothing")
    for item in made:
        texts = [item.text] if isinstance(item, Document) else []
        texts = [turn.content for turn in item.messages] if isinstance(item, Conversation) else texts
        fits = bool(texts) and all(text.strip() for text in texts)
        require(fits, "an answer holds documents or conversations, with text", f"{answer[:30]!r} gave {item!r:.60}")
