"""Which documents trained a scorer: an experiment on its scores must leave them out.

Only hashes are kept, of ids and of texts, so that a document is known again under another id, and a scorer can be
passed on without the texts it learned from.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import final

from phi3kit.corpus.scorers.folder import read_about
from phi3kit.errors import UserError
from phi3kit.families import Filter
from phi3kit.records import Document

SEEN = "trained_on.safetensors"


class Seen:
    """Hashes of documents.

    Args:
        ids: of their ids.
        texts: of their texts, white space apart.
    """

    def __init__(self, ids: Iterable[int], texts: Iterable[int]) -> None:
        self.ids, self.texts = frozenset(ids), frozenset(texts)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Seen:
        """The hashes of some documents."""
        both = [(_hash(document.id), text_hash(document.text)) for document in documents]
        return cls((id for id, _ in both), (text for _, text in both))

    def __contains__(self, document: Document) -> bool:
        return _hash(document.id) in self.ids or text_hash(document.text) in self.texts

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def version(self) -> str:
        """Hash of them all; 16 hexadecimal digits."""
        return sha256(str([sorted(self.ids), sorted(self.texts)]).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write them into a scorer's folder."""
        import numpy as np
        from safetensors.numpy import save

        named = {"ids": self.ids, "texts": self.texts}
        arrays = {name: np.array(sorted(hashes), np.uint64) for name, hashes in named.items()}
        (folder / SEEN).write_bytes(save(arrays))

    @classmethod
    def load(cls, folder: Path) -> Seen:
        """Read what `save` wrote; none where the folder's scorer learned from no documents."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not (folder / SEEN).is_file():
            return cls((), ())
        try:
            named = load_file(folder / SEEN)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / SEEN} is not readable as safetensors: {error}") from error
        return cls(named["ids"].tolist(), named["texts"].tolist())


def text_hash(text: str) -> int:
    """64 bits of a text, white space apart."""
    return _hash(" ".join(text.split()))


def _hash(text: str) -> int:
    return int.from_bytes(sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


@final
class NotTrainedOn(Filter):
    """Leaves out the documents that trained a scorer, by id or by text.

    Args:
        path: the scorer's folder.
    """

    def __init__(self, path: str) -> None:
        read_about(Path(path))
        self.path, self._seen = path, Seen.load(Path(path))
        self.version = self._seen.version  # decides its verdicts: the folder may be trained anew under the same name

    def reject(self, document: Document) -> str | None:
        """That it trained the scorer, or None."""
        return "trained the scorer" if document in self._seen else None
