"""One class per rule; each says why it rejects."""

from phi3kit.corpus.filters.alphabet import Alphabet
from phi3kit.corpus.filters.banned_words import BannedWords
from phi3kit.corpus.filters.boilerplate import Boilerplate
from phi3kit.corpus.filters.c4 import C4Lines, C4Paragraphs, C4Quality
from phi3kit.corpus.filters.fineweb_quality import FineWebQuality
from phi3kit.corpus.filters.gopher_quality import GopherQuality
from phi3kit.corpus.filters.gopher_repetition import GopherRepetition
from phi3kit.corpus.filters.language import Language
from phi3kit.corpus.filters.length import Length
from phi3kit.corpus.filters.personal_data import MaskPersonalData, PersonalData
from phi3kit.corpus.filters.reasoning import Reasoning
from phi3kit.corpus.filters.repetition import Repetition
from phi3kit.corpus.filters.score_limit import ScoreLimit
from phi3kit.corpus.filters.source_code import SourceCode
from phi3kit.corpus.filters.urls import BlockedURLs

__all__ = [
    "Alphabet",
    "BannedWords",
    "BlockedURLs",
    "Boilerplate",
    "C4Lines",
    "C4Paragraphs",
    "C4Quality",
    "FineWebQuality",
    "GopherQuality",
    "GopherRepetition",
    "Language",
    "Length",
    "MaskPersonalData",
    "PersonalData",
    "Reasoning",
    "Repetition",
    "ScoreLimit",
    "SourceCode",
]
