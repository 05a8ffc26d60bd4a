"""From raw documents to what training reads: one folder of tokens, chats and preferences, and its manifest.

Documents stream through files: read, exact duplicates out, filters, then tokens. The second phase's part holds
those of the first that pass the stricter filters, and exercises made of them; so its documents are a subset of
the first's plus the synthetic ones, by construction. Everything is written beside the folder and moved into
place when it is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, final

from phi3kit import __version__
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.selection import Selection
from phi3kit.corpus.tokens import TokenWriter
from phi3kit.errors import UserError
from phi3kit.families import Filter, Reader, Synthesizer, Tokenizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.bpe import train_bpe
from phi3kit.text.chat_files import conversation_row, preference_row
from phi3kit.text.folder import save_tokenizer

MANIFEST = "manifest.json"
AT_ONCE = 256  # documents encoded together


@final
class Preparation:
    """What `prepare` makes, and of what.

    Args:
        readers: where documents come from.
        filters: every document must pass them all.
        stricter: those that pass these as well make up the second phase's part, "reasoning".
        exercises: make synthetic documents for "reasoning" out of its documents.
        conversations: make chats (of the documents kept, or of files of your own).
        preferences: make pairs of a better and a worse answer.
        tokenizer: gives the ids; null: one is trained on the documents kept.
        vocab_size: number of ids of the tokenizer to train.
        holdout: share of the documents kept from training, chosen by their ids; at least one.
    """

    def __init__(
        self,
        readers: Sequence[Reader],
        filters: Sequence[Filter] = (),
        stricter: Sequence[Filter] = (),
        exercises: Sequence[Synthesizer] = (),
        conversations: Sequence[Synthesizer] = (),
        preferences: Sequence[Synthesizer] = (),
        tokenizer: Tokenizer | None = None,
        vocab_size: int | None = None,
        holdout: float = 0.02,
    ) -> None:
        if (tokenizer is None) == (vocab_size is None):
            raise UserError("give either `tokenizer`, or the `vocab_size` of one to train on these documents")
        if not 0 < holdout < 0.5:
            raise UserError(f"holdout is {holdout}; give the share to hold out, above 0 and below 0.5")
        self.readers, self.filters, self.stricter = readers, filters, stricter
        self.exercises, self.conversations, self.preferences = exercises, conversations, preferences
        self.tokenizer, self.vocab_size, self.holdout = tokenizer, vocab_size, holdout

    def run(self, out: Path, progress: Progress) -> dict[str, Any]:
        """Make the folder `out`, replacing one made before; return its manifest.

        Raises:
            UserError: bad input, nothing left of it, a full disk. What was in `out` stays as it was.
        """
        if out.exists() and not (out / MANIFEST).is_file():
            raise UserError(f"{out} exists and `prepare` did not make it; choose another `out`")
        partial = out.with_name(f"{out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            manifest = self._make(partial, progress)
        except OSError as error:
            raise UserError(f"cannot write {partial}: {error.strerror or error}; {out} is as it was") from error
        finally:
            if not (partial / MANIFEST).is_file():
                shutil.rmtree(partial, ignore_errors=True)
        _move_into_place(partial, out)
        return manifest

    def _make(self, folder: Path, progress: Progress) -> dict[str, Any]:
        work = folder / "work"
        work.mkdir(parents=True)
        seconds = {}
        began = time.perf_counter()

        def lap(step: str) -> None:
            nonlocal began
            seconds[step] = round(time.perf_counter() - began, 2)
            began = time.perf_counter()

        selection = Selection(self.filters, self.stricter, work / "kept.jsonl", folder / "rejected.jsonl")
        selection.run(progress.track(chain.from_iterable(r.read() for r in self.readers), "read and filter"))
        lap("read and filter")
        chats = self._write_chats(folder, selection, progress)
        exercises = self._write_exercises(work / "exercises.jsonl", selection)
        lap("make exercises and chats")
        tokenizer = self.tokenizer or self._train(folder, selection, progress)
        save_tokenizer(tokenizer, folder / "tokenizer")
        lap("tokenizer")
        parts = self._write_parts(folder, selection, work / "exercises.jsonl", tokenizer, progress)
        lap("tokens")
        manifest = {
            "phi3kit": __version__,
            "tokenizer": {
                "class": type(tokenizer).__name__,
                "fingerprint": tokenizer.fingerprint,
                "vocab_size": tokenizer.vocab_size,
            },
            "parts": parts,
            "exercises": exercises,
            **selection.report(),
            **chats,
        }
        shutil.rmtree(work)
        report = {"headline": headline(manifest), "seconds_of": seconds}
        (folder / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        return manifest

    def _write_exercises(self, path: Path, selection: Selection) -> int:
        """Exercises made of the strict documents, as rows; how many documents of them."""
        made = chain.from_iterable(s.make(selection.documents(strict=True)) for s in self.exercises)
        return _write_rows(path, (asdict(document) for document in _only(Document, made)))

    def _write_chats(self, folder: Path, selection: Selection, progress: Progress) -> dict[str, dict[str, int]]:
        """chat/SPLIT.jsonl and preferences/SPLIT.jsonl; rows per split."""
        chats = chain.from_iterable(s.make(selection.documents()) for s in self.conversations)
        pairs = chain.from_iterable(s.make(selection.documents()) for s in self.preferences)
        conversations = [(c.metadata, conversation_row(c)) for c in _only(Conversation, chats)]
        preferences = [(p.metadata, preference_row(p)) for p in _only(Preference, pairs)]
        return {
            "chat": _write_splits(folder / "chat", conversations),
            "preferences": _write_splits(folder / "preferences", preferences),
        }

    def _train(self, folder: Path, selection: Selection, progress: Progress) -> Tokenizer:
        """A BPE of the documents kept, and of what is said in training chats."""
        assert self.vocab_size is not None
        texts = (document.text for document in selection.documents())
        chats = folder / "chat" / "train.jsonl"
        said = (m["content"] for row in _rows(chats) for m in row["messages"]) if chats.exists() else ()
        counted = progress.track(chain(texts, said), "train the tokenizer")
        return train_bpe(counted, vocab_size=self.vocab_size)

    def _write_parts(
        self, folder: Path, selection: Selection, exercises: Path, tokenizer: Tokenizer, progress: Progress
    ) -> dict[str, dict[str, dict[str, int]]]:
        """The parts' tokens and the ids of their documents."""
        heldout = selection.held_out(self.holdout)
        web = progress.track(selection.documents(), "tokens of web", selection.kept)
        parts = {"web": _write_part(folder / "web", web, heldout, tokenizer)}
        if self.stricter or self.exercises:
            both = chain(selection.documents(strict=True), (Document(**row) for row in _rows(exercises)))
            strict = progress.track(both, "tokens of reasoning")
            parts["reasoning"] = _write_part(folder / "reasoning", strict, heldout, tokenizer)
        return parts


def headline(manifest: dict[str, Any]) -> list[str]:
    """The manifest in a few lines."""
    rejected = sorted(manifest["rejected"].items(), key=lambda item: -item[1])
    lines = [
        f"{manifest['read']} documents read, {manifest['kept']} kept"
        + (f"; rejected: {', '.join(f'{n} × {reason}' for reason, n in rejected[:4])}" if rejected else "")
    ]
    for part, splits in manifest["parts"].items():
        counts = ", ".join(f"{s} {c['documents']} documents / {c['tokens']:,} tokens" for s, c in splits.items())
        lines.append(f"{part}: {counts}")
    for kind in ("chat", "preferences"):
        if manifest[kind]:
            lines.append(f"{kind}: " + ", ".join(f"{split} {n}" for split, n in manifest[kind].items()))
    lines.append(f"tokenizer: {manifest['tokenizer']['class']} of {manifest['tokenizer']['vocab_size']} ids")
    return lines


def _move_into_place(partial: Path, out: Path) -> None:
    """Rename, keeping what was there until the new folder is in its place."""
    old = out.with_name(f"{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.rename(out, old)
    os.rename(partial, out)
    shutil.rmtree(old, ignore_errors=True)


def _write_part(
    folder: Path, documents: Iterable[Document], heldout: set[str], tokenizer: Tokenizer
) -> dict[str, dict[str, int]]:
    """Tokens of one part, train and heldout; what was made of a held-out document is held out too."""
    folder.mkdir()
    with (
        TokenWriter(folder / "train", tokenizer) as train,
        TokenWriter(folder / "heldout", tokenizer) as held,
        (folder / "documents.txt").open("w", encoding="utf-8") as ids,
    ):
        for group in _groups(documents):
            encoded = tokenizer.encode_batch([document.text for document in group])
            for document, tokens in zip(group, encoded, strict=True):
                original = document.metadata.get("made_from", document.id)
                (held if original in heldout else train).write([tokens])
                ids.write(f"{document.id}\n")
    counts = {s: {"documents": w.documents, "tokens": w.tokens} for s, w in (("train", train), ("heldout", held))}
    for split, count in counts.items():
        if not count["documents"]:
            raise UserError(
                f"no document is left for {folder.name}/{split}; read more documents, or shorter ones "
                "(one can be in training or held out, not in both)"
            )
    return counts


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    rest = iter(documents)
    while group := list(islice(rest, AT_ONCE)):
        yield group


def _only(kind: type, made: Iterable[Any]) -> Iterator[Any]:
    for item in made:
        if not isinstance(item, kind):
            raise UserError(f"a {kind.__name__} is wanted here, but {type(item).__name__} {item.id!r} was made")
        yield item


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    n = 0
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
    return n


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _write_splits(folder: Path, rows: Iterable[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, int]:
    """SPLIT.jsonl for each value of ``metadata["split"]``; rows of each. What is trained on is shuffled, by its ids:
    a batch should not be about one thing."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for metadata, row in rows:
        split = str(metadata.get("split", "train"))
        if not re.fullmatch(r"[\w-]+", split):
            raise UserError(f"{row['id']}: the split {split!r} cannot name a file; use letters and digits")
        splits.setdefault(split, []).append(row)
    if splits:
        folder.mkdir()
    splits.get("train", []).sort(key=lambda row: sha256(row["id"].encode()).digest())
    return {split: _write_rows(folder / f"{split}.jsonl", rows) for split, rows in splits.items()}
