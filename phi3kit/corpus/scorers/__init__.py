"""Scores of texts: how educational, how much reasoning, how much trivia; trained ones and counted ones."""

from phi3kit.corpus.scorers.embedding_head import EmbeddingHead
from phi3kit.corpus.scorers.folder import load_scorer, save_scorer
from phi3kit.corpus.scorers.hashed_n_grams import HashedNGrams
from phi3kit.corpus.scorers.reasoning_density import ReasoningDensity
from phi3kit.corpus.scorers.saved import SavedScorer
from phi3kit.corpus.scorers.seen import NotTrainedOn, Seen
from phi3kit.corpus.scorers.sequence_classifier import SequenceClassifier
from phi3kit.corpus.scorers.trivia_density import TriviaDensity

__all__ = [
    "EmbeddingHead",
    "HashedNGrams",
    "NotTrainedOn",
    "ReasoningDensity",
    "SavedScorer",
    "Seen",
    "SequenceClassifier",
    "TriviaDensity",
    "load_scorer",
    "save_scorer",
]
