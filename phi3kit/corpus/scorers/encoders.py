"""Texts to embeddings: the mean last hidden state of a Hugging Face encoder, or of a net this kit trained.

Everything is read from local folders, weights from safetensors only. Shapes: N texts, T tokens, D width.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MODEL_FILES = ("*.safetensors", "*.json", "vocab.txt", "*.model", "*.tiktoken", "tokenizer/*")
NOT_THE_MODEL = ("report.json", "metrics.json", "training_args.json")


class Encoder(ABC):
    """A loaded model."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], np.ndarray] = {}  # embeddings that `EmbeddingHead.fit` will need again

    @abstractmethod
    def hidden(self, text: str, max_tokens: int) -> Tensor:
        """The last hidden states of a text's first tokens, [T, D]; T may be 0."""

    @property
    @abstractmethod
    def width(self) -> int:
        """D."""

    def embed(self, texts: Sequence[str], max_tokens: int, remember: bool = False) -> np.ndarray:
        """Mean hidden states, [N, D] float32; zeros for a text without tokens.

        One text at a time: padding to the length of its neighbours would move a text's numbers in the last digits.
        """
        import numpy as np
        import torch

        rows = []
        for text in texts:
            row = self.known.get((text, max_tokens))
            if row is None:
                with torch.inference_mode():
                    hidden_TD = self.hidden(text, max_tokens).float()
                mean_D = hidden_TD.mean(0) if len(hidden_TD) else torch.zeros(self.width)
                row = mean_D.cpu().numpy()
                if remember:
                    self.known[text, max_tokens] = row
            rows.append(row)
        return np.stack(rows) if rows else np.empty((0, self.width), np.float32)


class HuggingFaceEncoder(Encoder):
    """An encoder or decoder in a folder with config.json, safetensors and tokenizer."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__()
        self.model, self.tokenizer = load_transformer(folder, "AutoModel", device)

    @property
    def width(self) -> int:
        """Of its hidden states."""
        return self.model.config.hidden_size

    def hidden(self, text: str, max_tokens: int) -> Tensor:
        """Last hidden states, special tokens included."""
        tokens = self.tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
        if not tokens["input_ids"].shape[1]:
            return tokens["input_ids"].new_zeros((0, self.width)).float()
        return self.model(**tokens.to(self.model.device)).last_hidden_state[0]


class RunEncoder(Encoder):
    """The net of one of our own runs: the normalised residual stream before the head."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__()
        from phi3kit.model.load import load_run
        from phi3kit.text.folder import load_tokenizer

        self.net, self.tokenizer = load_run(folder).float().to(device), load_tokenizer(folder / "tokenizer")
        self.device = device

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.net.dims.hidden_size

    def hidden(self, text: str, max_tokens: int) -> Tensor:
        """Hidden states of as many tokens as the net's context takes."""
        import torch

        ids = self.tokenizer.encode(text)[: min(max_tokens, self.net.dims.context)]
        if not ids:
            return torch.zeros(0, self.width)
        return self.net.hidden(torch.tensor([ids], device=self.device))[0]


def open_encoder(folder: str, device: str = "cpu") -> Encoder:
    """The model in a folder, loaded once per process and content.

    Raises:
        UserError: the folder holds neither a run nor a Hugging Face model, or no safetensors.
    """
    return _open(folder, fingerprint(folder), device)


@functools.lru_cache(maxsize=2)
def _open(folder: str, content: str, device: str) -> Encoder:
    if (Path(folder) / "config.yaml").is_file():
        return RunEncoder(Path(folder), device)
    return HuggingFaceEncoder(Path(folder), device)


def fingerprint(folder: str) -> str:
    """Hash of a model's weights, configuration and tokenizer; 16 hexadecimal digits."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"there is no folder {folder!r}; give a local one (models are never downloaded)")
    if not ((root / "config.json").is_file() or (root / "config.yaml").is_file()):
        raise UserError(f"{folder} holds no model: neither a run's config.yaml nor a Hugging Face config.json")
    if not list(root.glob("*.safetensors")):
        raise UserError(f"{folder} holds no .safetensors; pickled weights are not read: save the model as safetensors")
    files = {f for pattern in MODEL_FILES for f in root.glob(pattern) if f.is_file() and f.name not in NOT_THE_MODEL}
    listed = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files))
    return _fingerprint(root, listed)


@functools.lru_cache(maxsize=16)
def _fingerprint(root: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = sha256()
    if (root / "config.yaml").is_file():
        import yaml

        digest.update(str((yaml.safe_load((root / "config.yaml").read_text()) or {}).get("net")).encode())
    for name, size, _ in files:
        digest.update(f"{Path(name).relative_to(root)} {size}".encode())
        with open(name, "rb") as stream:
            while piece := stream.read(2**20):
                digest.update(piece)
    return digest.hexdigest()[:16]


def load_transformer(folder: Path, auto_class: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a local Hugging Face folder, in evaluation mode; none of the folder's code is run."""
    from phi3kit import torchvision_ops

    torchvision_ops.declare()
    import torch
    import transformers
    from safetensors import SafetensorError

    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **offline)
        loader = getattr(transformers, auto_class)
        model, found = loader.from_pretrained(
            str(folder), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **offline
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{folder} is not readable as a Hugging Face model: {first}") from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))  # not what we read
    if missing:  # transformers would draw them at random
        raise UserError(f"{folder} lacks weights of {type(model).__name__}: {', '.join(missing[:4])}; is it one?")
    return model.to(device).eval(), tokenizer
