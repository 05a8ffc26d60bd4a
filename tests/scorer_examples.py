"""Scorers and annotators that want something in their constructor: a model, a folder, a file, an endpoint."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from phi3kit.testing import tiny


@functools.cache
def folder() -> Path:
    """Lives as long as the tests."""
    return Path(_keep().name)


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def encoder(outputs: int | None = None, seed: int = 0) -> str:
    """A folder with a tiny BERT of random weights, as `transformers` saves one; with `outputs`, a classifier."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    path = folder() / f"bert-{outputs}-{seed}"
    words = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words.train_from_iterator(tiny.TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special))
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(fast), max_position_embeddings=64, initializer_range=0.5, **sizes)
    if outputs:
        config.num_labels = outputs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(config) if outputs else BertModel(config)
    model.save_pretrained(path)
    return str(path)


@functools.cache
def saved_scorer() -> str:
    """The folder of a trained scorer."""
    from phi3kit.corpus.scorers import HashedNGrams, Seen, save_scorer

    scorer = HashedNGrams()
    scorer.fit(tiny.TEXTS, [5, 0, 4, 0, 5, 0, 3, 1])
    save_scorer(scorer, folder() / "saved", {"threshold": 0.4})
    Seen.of(tiny.documents()[:3]).save(folder() / "saved")
    return str(folder() / "saved")


@functools.cache
def labels() -> str:
    """A file of labels for the tiny corpus."""
    path = folder() / "labels.jsonl"
    rows = [{"text": text, "label": i % 6, "rationale": f"reason {i}"} for i, text in enumerate(tiny.TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@functools.cache
def endpoint() -> str:
    """The address of a model that counts words."""
    from dummy_endpoint import DummyEndpoint

    return DummyEndpoint().start().url


@functools.cache
def writing_endpoint() -> str:
    """The address of a model that writes sections, exercises and questions."""
    from dummy_endpoint import DummyEndpoint
    from writing_model import write

    return DummyEndpoint(write).start().url


def examples() -> dict[str, dict[str, Callable[..., Any]]]:
    """component -> label -> how to build it."""
    from phi3kit.corpus.annotators import BySource, LabelFile, LanguageModel
    from phi3kit.corpus.scorers import EmbeddingHead, NotTrainedOn, SavedScorer, SequenceClassifier
    from phi3kit.corpus.synthesis import (
        Exercises,
        LanguageModelSynthesizer,
        MajorityVote,
        QuestionsAndAnswers,
        TextbookSection,
    )

    heads = ("logistic", "ridge", "forest")
    return {
        "EmbeddingHead": {head: lambda head=head: EmbeddingHead(encoder(), head=head, max_tokens=48) for head in heads},
        "SequenceClassifier": {
            f"{n} outputs": lambda n=n: SequenceClassifier(encoder(outputs=n), max_tokens=48) for n in (1, 2)
        },
        "SavedScorer": {"folder": lambda: SavedScorer(saved_scorer())},
        "NotTrainedOn": {"folder": lambda: NotTrainedOn(saved_scorer())},
        "LabelFile": {"file": lambda: LabelFile(labels())},
        "BySource": {"tiny": lambda: BySource({"tiny": 4})},
        "LanguageModel": {
            "endpoint": lambda: LanguageModel(endpoint(), "counts-words", str(folder() / "answers.jsonl"))
        },
        "LanguageModelSynthesizer": {
            "sections": lambda: LanguageModelSynthesizer(
                writing_endpoint(), "writes", str(folder() / "sections.jsonl"), TextbookSection(least_words=20)
            ),
            "questions": lambda: LanguageModelSynthesizer(
                writing_endpoint(), "writes", str(folder() / "questions.jsonl"), QuestionsAndAnswers()
            ),
            "exercises": lambda: LanguageModelSynthesizer(
                writing_endpoint(), "writes", str(folder() / "exercises.jsonl"), Exercises(), vote=MajorityVote(3)
            ),
        },
    }
