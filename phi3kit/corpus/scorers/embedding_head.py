"""phi-1's recipe: labels of a strong model for a few documents, learned on the embeddings of a small one.

"We train a random forest classifier that predicts the quality of a file/sample using its output embedding from a
pretrained codegen model as features" (arXiv 2306.11644, section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from phi3kit.corpus.scorers.encoders import fingerprint, open_encoder
from phi3kit.corpus.scorers.heads import HEADS, HeadName
from phi3kit.corpus.scorers.state import content_version, read_arrays, read_options, write_state
from phi3kit.corpus.scorers.two_sides import sides, unfitted
from phi3kit.errors import UserError
from phi3kit.families import Scorer

if TYPE_CHECKING:
    import numpy as np


@final
class EmbeddingHead(Scorer):
    """A regression or a forest on the mean hidden state of a model.

    Args:
        encoder: a local folder: any Hugging Face encoder or decoder (safetensors), or one of our own runs.
        aspect: what the labels are about.
        head: "logistic" gives the probability of a positive label, "forest" as well, "ridge" the label itself.
        positive: labels from this on have the aspect.
        max_tokens: how much of a text is read.
        device: where the encoder runs.
    """

    def __init__(
        self,
        encoder: str,
        aspect: str = "educational",
        head: HeadName = "logistic",
        positive: float = 3.0,
        max_tokens: int = 512,
        device: str = "cpu",
    ) -> None:
        self.encoder, self._aspect, self.head = encoder, aspect, head
        self.positive, self.max_tokens, self.device = positive, max_tokens, device
        self.probability = HEADS[head].probability
        self._content = fingerprint(encoder)
        self._arrays: dict[str, np.ndarray] = {}

    @property
    def aspect(self) -> str:
        """As given."""
        return self._aspect

    @property
    def version(self) -> str:
        """Hash of options, the encoder's content and the head; not of where the encoder lies."""
        if not self._arrays:
            raise unfitted(self)
        options = {k: v for k, v in self._options().items() if k not in ("encoder", "device")}
        return content_version("EmbeddingHead", options, self._arrays)

    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Embed the texts and fit the head. Raises `UserError` where all labels are on one side of `positive`."""
        import numpy as np

        sides(texts, labels, self.positive)
        x_ND = open_encoder(self.encoder, self.device).embed(texts, self.max_tokens, remember=True)
        arrays = HEADS[self.head].fit(x_ND, np.asarray(labels, dtype=np.float64), self.positive)
        self._arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    def score(self, texts: Sequence[str]) -> list[float]:
        """A probability, or with "ridge" a label, per text."""
        if not self._arrays:
            raise unfitted(self)
        x_ND = open_encoder(self.encoder, self.device).embed(texts, self.max_tokens)
        return HEADS[self.head].score(self._arrays, x_ND).tolist() if len(texts) else []

    def save(self, folder: Path) -> None:
        """Write options and the head; the encoder stays where it is, known by its hash."""
        if not self._arrays:
            raise unfitted(self)
        write_state(folder, self._options(), self._arrays)

    @classmethod
    def load(cls, folder: Path) -> EmbeddingHead:
        """Read what `save` wrote. Raises `UserError` where the encoder is gone or another one."""
        options = read_options(folder)
        trained_on = options.pop("content")
        try:
            scorer = cls(**options)
        except UserError as error:
            raise UserError(
                f"the encoder of the scorer in {folder}: {error}; see `encoder` in its scorer.json"
            ) from error
        if scorer._content != trained_on:
            raise UserError(
                f"the encoder in {scorer.encoder} is not the one the scorer in {folder} was trained on; train it "
                "again, or set `encoder` in its scorer.json to the folder of the right one"
            )
        scorer._arrays = read_arrays(folder)
        return scorer

    def _options(self) -> dict[str, Any]:
        return {
            "encoder": str(Path(self.encoder).resolve()),
            "content": self._content,
            "aspect": self._aspect,
            "head": self.head,
            "positive": self.positive,
            "max_tokens": self.max_tokens,
            "device": self.device,
        }
