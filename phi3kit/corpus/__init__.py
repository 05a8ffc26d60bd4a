"""Raw documents to tokens: readers, extractors, filters, Python's documentation, and `prepare` itself."""

from phi3kit.corpus.arrow import HubDataset, SavedDataset
from phi3kit.corpus.chats import ConversationFile, PreferenceFile
from phi3kit.corpus.engine.executors import Local, Ray, Slurm
from phi3kit.corpus.extractors import HTML, FastHTML, PlainText
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
from phi3kit.corpus.markdown import Markdown
from phi3kit.corpus.preparation import Preparation
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.python_docs import DocstringExercises, PythonDocs, PythonPreferences, PythonQuestions
from phi3kit.corpus.queries import Mixture, Query
from phi3kit.corpus.sources import Source
from phi3kit.corpus.web import WARC
from phi3kit.corpus.words import FineWebWords, GopherWords

__all__ = [
    "HTML",
    "WARC",
    "Alphabet",
    "BannedWords",
    "BlockedURLs",
    "Boilerplate",
    "C4Lines",
    "C4Paragraphs",
    "C4Quality",
    "ConversationFile",
    "DocstringExercises",
    "FastHTML",
    "Files",
    "FineWebQuality",
    "FineWebWords",
    "GopherQuality",
    "GopherRepetition",
    "GopherWords",
    "HubDataset",
    "JSONLines",
    "Language",
    "Length",
    "Local",
    "Markdown",
    "MaskPersonalData",
    "Mixture",
    "ParquetFiles",
    "PersonalData",
    "PlainText",
    "PreferenceFile",
    "Preparation",
    "Progress",
    "PythonDocs",
    "PythonPreferences",
    "PythonQuestions",
    "Query",
    "Ray",
    "Reasoning",
    "Repetition",
    "SavedDataset",
    "ScoreLimit",
    "Slurm",
    "Source",
    "SourceCode",
]
