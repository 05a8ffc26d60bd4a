"""Where labels come from: files, a language model, or, weakly, the source of a document."""

from phi3kit.corpus.annotators.by_source import BySource
from phi3kit.corpus.annotators.label_file import LabelFile
from phi3kit.corpus.annotators.language_model import LanguageModel

__all__ = ["BySource", "LabelFile", "LanguageModel"]
