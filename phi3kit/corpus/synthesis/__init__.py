"""Synthesis: training material that a language model writes, about topics or out of documents."""

from phi3kit.corpus.synthesis.exercises import Exercises
from phi3kit.corpus.synthesis.model_synthesizer import LanguageModelSynthesizer
from phi3kit.corpus.synthesis.prose import Rephrase, TextbookSection
from phi3kit.corpus.synthesis.questions import QuestionsAndAnswers
from phi3kit.corpus.synthesis.vote import MajorityVote

__all__ = [
    "Exercises",
    "LanguageModelSynthesizer",
    "MajorityVote",
    "QuestionsAndAnswers",
    "Rephrase",
    "TextbookSection",
]
