"""Raw documents to tokens: readers, extractors, filters, Python's documentation, and `prepare` itself."""

from phi3kit.corpus.chats import ConversationFile, PreferenceFile
from phi3kit.corpus.extractors import HTML, Markdown, PlainText
from phi3kit.corpus.files import Files, JSONLines, ParquetFiles
from phi3kit.corpus.filters import (
    Alphabet,
    BannedWords,
    BlockedURLs,
    Boilerplate,
    C4Lines,
    C4Paragraphs,
    C4Quality,
    FineWebQuality,
    GopherQuality,
    GopherRepetition,
    Language,
    Length,
    MaskPersonalData,
    PersonalData,
    Reasoning,
    Repetition,
    ScoreLimit,
    SourceCode,
)
from phi3kit.corpus.preparation import Preparation
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.python_docs import DocstringExercises, PythonDocs, PythonPreferences, PythonQuestions
from phi3kit.corpus.words import FineWebWords, GopherWords

__all__ = [
    "HTML",
    "Alphabet",
    "BannedWords",
    "BlockedURLs",
    "Boilerplate",
    "C4Lines",
    "C4Paragraphs",
    "C4Quality",
    "ConversationFile",
    "DocstringExercises",
    "Files",
    "FineWebQuality",
    "FineWebWords",
    "GopherQuality",
    "GopherRepetition",
    "GopherWords",
    "JSONLines",
    "Language",
    "Length",
    "Markdown",
    "MaskPersonalData",
    "ParquetFiles",
    "PersonalData",
    "PlainText",
    "PreferenceFile",
    "Preparation",
    "Progress",
    "PythonDocs",
    "PythonPreferences",
    "PythonQuestions",
    "Reasoning",
    "Repetition",
    "ScoreLimit",
    "SourceCode",
]
