"""Other people's classifiers: FineWeb-Edu's and whatever else is a sequence classifier on Hugging Face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from phi3kit.corpus.scorers.encoders import fingerprint, load_transformer
from phi3kit.corpus.scorers.state import content_version, read_options, write_state
from phi3kit.errors import UserError
from phi3kit.families import Scorer


@final
class SequenceClassifier(Scorer):
    """A sequence classifier in a local folder, as it is.

    One output is the score itself (HuggingFaceFW/fineweb-edu-classifier: about 0 to 5, kept from 3 on); of several,
    the score is the probability of one class.

    Args:
        path: a folder with config.json, safetensors and a tokenizer.
        aspect: what it scores.
        label: the class that has the aspect, by its name in config.json; null: the last one.
        max_tokens: how much of a text is read.
        device: where it runs.
    """

    learns = False

    def __init__(
        self,
        path: str,
        aspect: str = "educational",
        label: str | None = None,
        max_tokens: int = 512,
        device: str = "cpu",
    ) -> None:
        self.path, self._aspect, self.label = path, aspect, label
        self.max_tokens, self.device = max_tokens, device
        self._content = fingerprint(path)
        n_outputs, self._output = _output(Path(path), label)
        self.probability = n_outputs > 1

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """Hash of the folder's content and what is read of it."""
        read = {"content": self._content, "output": self._output, "max_tokens": self.max_tokens}
        return content_version("SequenceClassifier", {"aspect": self._aspect, **read})

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Nothing to learn: it is trained."""

    def score(self, texts: Sequence[str]) -> list[float]:
        """Its output per text, one text at a time, so that neighbours change nothing."""
        import torch

        model, tokenizer = _load(self.path, self._content, self.device)
        scores = []
        for text in texts:
            tokens = tokenizer(text, truncation=True, max_length=self.max_tokens, return_tensors="pt")
            with torch.inference_mode():
                logits = model(**tokens.to(self.device)).logits[0].double()
            scores.append(float(logits.softmax(0)[self._output] if self.probability else logits[0]))
        return scores

    def save(self, folder: Path) -> None:
        """Write which folder, and the hash of what is in it; the model stays where it is."""
        named = {"path": str(Path(self.path).resolve()), "aspect": self._aspect, "label": self.label}
        read = {"max_tokens": self.max_tokens, "device": self.device, "content": self._content}
        write_state(folder, {**named, **read})

    @classmethod
    def load(cls, folder: Path) -> SequenceClassifier:
        """Read what `save` wrote. Raises `UserError` where the model is gone or another one."""
        options = read_options(folder)
        content = options.pop("content")
        scorer = cls(**options)
        if scorer._content != content:
            raise UserError(f"the model in {scorer.path} has changed since {folder} was written; write it again")
        return scorer


def _output(folder: Path, label: str | None) -> tuple[int, int]:
    """(how many outputs, which one is the score)."""
    import json

    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    names = {int(i): name for i, name in (config.get("id2label") or {}).items()}
    if not names:
        names = {i: f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))}  # transformers' default
    if label is None:
        return len(names), max(names)
    found = [i for i, name in names.items() if name == label]
    if not found:
        raise UserError(f"{folder} has no class {label!r}; it has {', '.join(map(str, names.values()))}")
    return len(names), found[0]


@functools.lru_cache(maxsize=2)
def _load(path: str, content: str, device: str) -> tuple[Any, Any]:
    return load_transformer(Path(path), "AutoModelForSequenceClassification", device)
