"""From raw documents to what training reads: one folder of tokens, chats and preferences, and its manifest.

Documents stream through files: read, exact duplicates out, filters, then tokens. The second phase's part holds
those of the first that pass the stricter filters, and exercises made of them; so its documents are a subset of
the first's plus the synthetic ones, by construction. Everything is written beside the folder and moved into
place when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, final

from phi3kit import __version__
from phi3kit.corpus.parts import write_part
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.rows import read_rows, write_rows, write_splits
from phi3kit.corpus.selection import Selection
from phi3kit.errors import UserError
from phi3kit.families import Filter, Reader, Synthesizer, Tokenizer
from phi3kit.records import Conversation, Document, Preference
from phi3kit.text.bpe import train_bpe
from phi3kit.text.chat_files import conversation_row, preference_row
from phi3kit.text.folder import save_tokenizer

MANIFEST = "manifest.json"


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
        return write_rows(path, (asdict(document) for document in _only(Document, made)))

    def _write_chats(self, folder: Path, selection: Selection, progress: Progress) -> dict[str, dict[str, int]]:
        """chat/SPLIT.jsonl and preferences/SPLIT.jsonl; rows per split."""
        chats = chain.from_iterable(s.make(selection.documents()) for s in self.conversations)
        pairs = chain.from_iterable(s.make(selection.documents()) for s in self.preferences)
        conversations = [(c.metadata, conversation_row(c)) for c in _only(Conversation, chats)]
        preferences = [(p.metadata, preference_row(p)) for p in _only(Preference, pairs)]
        return {
            "chat": write_splits(folder / "chat", conversations),
            "preferences": write_splits(folder / "preferences", preferences),
        }

    def _train(self, folder: Path, selection: Selection, progress: Progress) -> Tokenizer:
        """A BPE of the documents kept, and of what is said in training chats."""
        assert self.vocab_size is not None
        texts = (document.text for document in selection.documents())
        chats = folder / "chat" / "train.jsonl"
        said = (m["content"] for row in read_rows(chats) for m in row["messages"]) if chats.exists() else ()
        counted = progress.track(chain(texts, said), "train the tokenizer")
        return train_bpe(counted, vocab_size=self.vocab_size)

    def _write_parts(
        self, folder: Path, selection: Selection, exercises: Path, tokenizer: Tokenizer, progress: Progress
    ) -> dict[str, dict[str, dict[str, int]]]:
        """The parts' tokens and the ids of their documents."""
        heldout = selection.held_out(self.holdout)
        web = progress.track(selection.documents(), "tokens of web", selection.kept)
        parts = {"web": write_part(folder / "web", web, heldout, tokenizer)}
        if self.stricter or self.exercises:
            both = chain(selection.documents(strict=True), (Document(**row) for row in read_rows(exercises)))
            strict = progress.track(both, "tokens of reasoning")
            parts["reasoning"] = write_part(folder / "reasoning", strict, heldout, tokenizer)
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


def _only(kind: type, made: Iterable[Any]) -> Iterator[Any]:
    for item in made:
        if not isinstance(item, kind):
            raise UserError(f"a {kind.__name__} is wanted here, but {type(item).__name__} {item.id!r} was made")
        yield item
