"""Raw documents to tokens: readers, extractors, filters, Python's documentation, and `prepare` itself."""

from phi3kit.corpus.chats import ConversationFile, PreferenceFile
from phi3kit.corpus.extractors import HTML, Markdown, PlainText
from phi3kit.corpus.files import Files, JSONLines, ParquetFiles
from phi3kit.corpus.filters import Alphabet, Boilerplate, Length, Reasoning, Repetition
from phi3kit.corpus.preparation import Preparation
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.python_docs import DocstringExercises, PythonDocs, PythonPreferences, PythonQuestions

__all__ = [
    "HTML",
    "Alphabet",
    "Boilerplate",
    "ConversationFile",
    "DocstringExercises",
    "Files",
    "JSONLines",
    "Length",
    "Markdown",
    "ParquetFiles",
    "PlainText",
    "PreferenceFile",
    "Preparation",
    "Progress",
    "PythonDocs",
    "PythonPreferences",
    "PythonQuestions",
    "Reasoning",
    "Repetition",
]
