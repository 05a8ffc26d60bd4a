"""Texts that every export is checked with besides its own: prompts, and what makes tokenizers stumble."""

from __future__ import annotations

PROMPTS = (
    "What is a prime number?",
    "Write a function that adds two numbers.",
    "Why is the sky blue?",
    "Name three rivers.",
    "How do I sort a list?",
    "What does len return?",
    "Translate 'good morning' into French.",
    "Explain recursion to a child.",
    "Is 91 a prime?",
    "Give me a recipe for rice.",
    "What is 17 times 23?",
    "Who wrote Hamlet?",
    "Tell me a short story about a lamp.",
    "What is the capital of Peru?",
    "How far away is the moon?",
    "When does water boil?",
    "Summarise: the river is low in summer and high in spring.",
    "Which is heavier, iron or feathers?",
    "Correct this sentence: he go home.",
    "What comes next: 2, 4, 8, 16?",
)

AWKWARD = (
    "a",
    "two  spaces   and three",
    "tabs\tand\nnew\n\nlines",
    "12345678901234567890 3.14e-10 0xFF",
    "don't we'll I'M they'VE",
    "def f(x):\n    return {'a': [x ** 2, -x]}  # done",
    "Élodie naïvely paid 12 € for a café crème in Zürich.",
    "日本語 العربية हिन्दी русский ελληνικά",
    "👩\u200d🚀👍🏽 and 🙂",
    "e\u0301 is not é",
    "<| almost |> </s> <end>",
    "trailing space ",
)
