"""The graph of stages: which reads what. Each is run, or found finished, as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit.corpus.engine.stage import Done, File
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.file_names import told_apart
from phi3kit.corpus.files import find
from phi3kit.corpus.parts import Divisible
from phi3kit.corpus.scores import distributions
from phi3kit.corpus.stages.chats import Chats
from phi3kit.corpus.stages.choose import Choose, also_held_out
from phi3kit.corpus.stages.duplicates import Duplicates, Hashes
from phi3kit.corpus.stages.encode import Encode, Vocabulary
from phi3kit.corpus.stages.made import Exercises
from phi3kit.corpus.stages.near import NearDuplicates, Signatures
from phi3kit.corpus.stages.read import Divide, Piece, Read, pieces_of
from phi3kit.corpus.stages.score import Score
from phi3kit.corpus.stages.scored import Scored
from phi3kit.corpus.stages.screen import Questions
from phi3kit.corpus.stages.sift import Sift
from phi3kit.corpus.stages.write import Encoded, Tokens, groups_of, tokens_by_source
from phi3kit.errors import UserError
from phi3kit.families import Reader, Tokenizer
from phi3kit.text.folder import load_tokenizer

if TYPE_CHECKING:
    from phi3kit.corpus.preparation import Preparation

SPLITS = ("train", "heldout")
PARTS, LEAST = 16, 8 * 2**20  # parts of a small corpus; bytes that are worth a process
PACKED = (".gz", ".zst")
QUESTIONS = (".jsonl", ".json", ".csv", ".tsv")  # kinds of benchmark files in a folder


@dataclass
class Plan:
    """The stages of a preparation.

    Args:
        asked: what is to be made.
        store: runs stages.
    """

    asked: Preparation
    store: Store
    epochs: dict[str, dict[str, float]] = field(default_factory=dict)  # phase -> source -> epochs, of mixtures

    @cached_property
    def read(self) -> Done:
        """Documents as they come."""
        return self.store.run(Read(self.pieces, self.asked.shard_bytes, self.part_bytes))

    @cached_property
    def pieces(self) -> list[Piece]:
        """What there is to read."""
        with chdir(self.asked.folder):
            pieces = [
                piece
                for (name, reader, made), some in zip(self._readers, self._files, strict=True)
                for piece in pieces_of(name, reader, some, self.part_bytes, made)
            ]
        return self._divided(pieces)

    @cached_property
    def _readers(self) -> list[tuple[str, Reader, bool]]:
        """(source, reader, synthetic); `optional` sources of which there is nothing are left out."""
        with chdir(self.asked.folder):
            there = [(s.name, s.reader, s.synthetic) for s in self.asked.sources if s.is_there()]
        return [*there, *(("", reader, False) for reader in self.asked.readers)]

    @cached_property
    def _files(self) -> list[list[tuple[str, Path]]]:
        """What each of them reads."""
        with chdir(self.asked.folder):
            found = told_apart([(name, self._others(reader)) for name, reader, _ in self._readers])
            return [[(name, file.absolute()) for name, file in some] for some in found]

    @cached_property
    def part_bytes(self) -> int:
        """How much of files one rank reads: of a small corpus less than `shard_megabytes`, so that all cores do.

        What decides is the input alone, so the output does not depend on the machine.
        """
        total = sum(file.stat().st_size for some in self._files for _, file in some)
        return min(self.asked.shard_bytes, max(LEAST, total // PARTS))

    def _others(self, reader: Reader) -> list[tuple[str, Path]]:
        """The files of a reader but those that `prepare` itself has written to `out` or beside it."""
        own = [self.store.root.with_name(self.store.root.stem + end) for end in ("", ".stages", ".partial", ".old")]
        found = reader.files()
        others = [(n, f) for n, f in found if not any(f.resolve().is_relative_to(o.resolve()) for o in own)]
        if found and not others:
            raise UserError(f"{found[0][1]} is what this `prepare` has written itself to {own[0]}; give another `out`")
        return others

    def _divided(self, pieces: list[Piece]) -> list[Piece]:
        """Large files in parts, where their readers can read parts."""
        size = self.part_bytes
        large = [p for p in pieces if p.bytes > self._whole(p) and isinstance(p.reader, Divisible)]
        if not large:
            return pieces
        stage = Divide(large, size)
        parts = dict(zip(map(id, large), stage.parts(self.store.run(stage)), strict=True))
        return [part for piece in pieces for part in parts.get(id(piece), [piece])]

    def _whole(self, piece: Piece) -> int:
        """Up to which size one rank reads a file: a part of a packed one costs unpacking all that is before it."""
        packed = any(file.suffix in PACKED for _, file in piece.files)
        return self.asked.shard_bytes if packed else self.part_bytes

    @cached_property
    def sift(self) -> Done:
        """Documents that pass the filters of their source."""
        rules = [[*self.asked.filters, *source.rules()] for source in self.asked.sources] + [list(self.asked.filters)]
        number = {source.name: i for i, source in enumerate(self.asked.sources)}
        shards = [
            (file, number.get(self._piece_of(file).source, len(number))) for file in self.read.files("documents-")
        ]
        return self.store.run(Sift(shards, rules))

    def _annotate(self, shards: list[File]) -> list[File]:
        """The same with their scores."""
        return self.store.run(Score(shards, self.asked.scorers)).files("documents") if self.asked.scorers else shards

    def _near_duplicates(self, *groups: list[File]) -> list[File]:
        """Rows that repeat an earlier document in other words; shards are counted through all groups."""
        minhash = self.asked.near_duplicates
        if minhash is None:
            return []
        stages = [Signatures(group, self._web(len(group), made), minhash) for made, group in enumerate(groups)]
        signatures = [file for stage in stages for file in self.store.run(stage).files()]
        return self.store.run(NearDuplicates(list(chain(*groups)), signatures, minhash)).files()

    def _web(self, n: int, made: int) -> list[bool]:
        """Which shards hold web pages: none of what was made, otherwise those whose source has that profile."""
        web = {source.name for source in self.asked.sources if source.profile == "web"}
        return (
            [False] * n
            if made
            else [piece.source in web for piece in map(self._piece_of, self.read.files("documents-"))]
        )

    def _piece_of(self, shard: File) -> Piece:
        """What a shard of `read` was read from."""
        return self.pieces[int(shard.path.parent.name)]

    def _duplicates(self, *groups: list[File]) -> list[File]:
        """Rows that repeat an earlier document; shards are counted through all groups."""
        hashes = [file for group in groups for file in self.store.run(Hashes(group)).files("hashes")]
        return self.store.run(Duplicates(list(chain(*groups)), hashes)).files()

    @cached_property
    def scored(self) -> Done:
        """What phases choose from."""
        sifted = self.sift.files("documents")
        repeated, near = self._duplicates(sifted), self._near_duplicates(sifted)
        return self.store.run(Scored(self._annotate(sifted), repeated, near, self.aspects, self.questions))

    @property
    def aspects(self) -> list[str]:
        """What is scored."""
        return [scorer.aspect for scorer in self.asked.scorers]

    @cached_property
    def questions(self) -> Questions:
        """Of benchmarks."""
        with chdir(self.asked.folder):
            files = [file.absolute() for path in self.asked.benchmarks for _, file in find(path, QUESTIONS)]
        return Questions(tuple(files))

    @cached_property
    def choice(self) -> Done:
        """The phases of every scored document."""
        return self._choose(self.scored)

    def _choose(self, documents: Done) -> Done:
        return self.store.run(Choose(documents.files("documents"), self.asked.queries, self.asked.holdout))

    @cached_property
    def made(self) -> Done | None:
        """Synthetic documents made of the last phase's, as they come; None where nobody makes any."""
        if not self.asked.exercises:
            return None
        shards, masks = self.scored.files("documents"), self.choice.files("phases")
        last, asked = len(self.asked.queries) - 1, self.asked
        with chdir(asked.folder):
            stage = Exercises(shards, masks, last, asked.exercises, asked.shard_bytes, asked.folder)
            return self.store.run(stage)

    @cached_property
    def made_sifted(self) -> Done | None:
        """Those that pass the rules for them; None where there are none."""
        rules = self.asked.made_rules
        if self.made is None or not rules or not self.made.files("documents"):
            return None
        return self.store.run(Sift([(file, 0) for file in self.made.files("documents")], [rules]))

    @cached_property
    def exercises(self) -> Done | None:
        """Those that are left when they, too, are scored, and what repeats any document, or a benchmark, is gone."""
        if self.made is None:
            return None
        sifted, made = self.sift.files("documents"), (self.made_sifted or self.made).files("documents")
        repeated, near = self._duplicates(sifted, made), self._near_duplicates(sifted, made)
        scored = self._annotate(made)
        return self.store.run(Scored(scored, repeated, near, self.aspects, self.questions, len(sifted)))

    @cached_property
    def chats(self) -> Done:
        """Conversations and preferences."""
        asked = self.asked
        shards = self.scored.files("documents") if asked.conversations or asked.preferences else []
        with chdir(asked.folder):
            made = shards, asked.conversations, asked.preferences, asked.folder
            return self.store.run(Chats(*made, self.questions, asked.scorers, asked.near_duplicates))

    @cached_property
    def vocabulary(self) -> Done:
        """The tokenizer."""
        training = self.asked.tokenizer is None
        shards = self.scored.files("documents") if training else []
        chats = self.chats.files("chat/train") if training else []
        return self.store.run(Vocabulary(self.asked.tokenizer, self.asked.vocab_size, shards, chats))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        return self.asked.tokenizer or load_tokenizer(self.vocabulary.folder / "00000" / "tokenizer")

    @cached_property
    def encoded(self) -> list[Encoded]:
        """Every scored document and every exercise: its phases and ids."""
        made = [] if self.exercises is None or not self.exercises.files("documents") else [self.exercises]
        return [shard for documents in [self.scored, *made] for shard in self._encode(documents)]

    def _encode(self, documents: Done) -> list[Encoded]:
        choice = self.choice if documents is self.scored else self._choose(documents)
        shards = documents.files("documents")
        done = self.store.run(Encode(shards, self.tokenizer))
        together = zip(shards, choice.files("phases"), done.files("ids"), done.files("lengths"), strict=True)
        types = [counts["type"] for counts in done.counts()]
        return [Encoded(*files, type) for files, type in zip(together, types, strict=True)]

    def tokens(self, phase: int, split: str) -> Done:
        """The chunks of one split of one phase."""
        query = self.asked.queries[phase]
        epochs: dict[str, float] = {}
        if query.mixture:
            epochs = query.mixture.epochs(tokens_by_source(self.encoded, phase))
            self.epochs[query.name] = epochs
        bytes_at_once = self.asked.shard_bytes if split == "train" else 2**62  # little is held out: one rank
        groups = groups_of(self.encoded, phase, bytes_at_once)
        return self.store.run(Tokens(groups, phase, split, also_held_out(self.choice), epochs))

    def distributions(self) -> dict[str, Any]:
        """What the scores say."""
        scored = {file.path for file in self.scored.files("documents")}
        return distributions([shard for shard in self.encoded if shard.documents.path in scored], self.aspects)

    def stages(self) -> Sequence[Done]:
        """Every stage that judges documents, in order."""
        return [self.read, self.sift, self.scored, self.choice]

    def inputs(self) -> dict[str, Any]:
        """The files read: name -> sha256 and bytes."""
        return {name: about for rank in self.read.counts() for name, about in rank["inputs"].items()}

    def files_of_all(self, name: str) -> list[Path]:
        """Files of one name that any judging stage wrote, in order."""
        judges = [*self.stages(), *filter(None, (self.made_sifted, self.exercises)), self.chats]
        return [file.path for done in judges for file in done.files(name)]
