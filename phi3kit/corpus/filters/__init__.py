"""One class per rule; each says why it rejects."""

from phi3kit.corpus.filters.alphabet import Alphabet
from phi3kit.corpus.filters.boilerplate import Boilerplate
from phi3kit.corpus.filters.length import Length
from phi3kit.corpus.filters.reasoning import Reasoning
from phi3kit.corpus.filters.repetition import Repetition

__all__ = ["Alphabet", "Boilerplate", "Length", "Reasoning", "Repetition"]
