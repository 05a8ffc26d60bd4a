"""From raw documents to what training reads: one folder of tokens, chats and preferences, and its manifest.

The work is a graph of stages (`plan`): read, sift by the rules of each source, leave out duplicates; the scored set
that comes of it is the same for all phases, which are queries over it. Every stage has a folder beside `out`, named
by all that decides its content; so a stopped run goes on where it stopped, and a changed option repeats that stage
and those after it. `out` is put together of their files and moved into place when it is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Annotated, Any, Literal, final

from phi3kit.bounds import Bound, Positive
from phi3kit.corpus.chats import ChatFile
from phi3kit.corpus.engine.executors import Local
from phi3kit.corpus.engine.store import Store
from phi3kit.corpus.manifest import headline, manifest_of
from phi3kit.corpus.minhash import MinHash
from phi3kit.corpus.page import page
from phi3kit.corpus.plan import Plan
from phi3kit.corpus.profiles import profile
from phi3kit.corpus.progress import Progress
from phi3kit.corpus.publish import move_into_place, write_folder, write_json
from phi3kit.corpus.queries import Query, check_queries
from phi3kit.corpus.samples import Samples
from phi3kit.corpus.scores import table
from phi3kit.corpus.sources import Source
from phi3kit.errors import UserError
from phi3kit.families import Cleaner, Executor, Filter, Reader, Scorer, Synthesizer, Tokenizer

MANIFEST = "manifest.json"


@final
class Preparation:
    """What `prepare` makes, and of what.

    Args:
        folder: that the paths of readers and of chats start from; null: the working folder.
        readers: where documents come from, under the rules for all sources.
        sources: where documents come from, each with a name, a licence and rules of its own.
        filters: every document must pass them all.
        scorers: give every document a number per aspect, e.g. educational; phases decide by them.
        near_duplicates: finds documents, chats and preferences that repeat others in other words; null: only exact
            repetitions of documents go.
        benchmarks: files of questions that must not be in the data (or folders, or patterns with ``*``).
        phases: what each phase trains on; null: everything, as "web", and what `stricter` and `exercises` say.
        stricter: documents that pass these as well make up a second phase, "reasoning".
        exercises: make synthetic documents for the last phase out of its documents.
        exercise_profile: which rules fit what they make: synthetic, curated or code (see `profiles`); null: none.
        exercise_filters: further filters and cleaners for them, after the profile's.
        conversations: make chats (of the documents kept, or of files of your own).
        preferences: make pairs of a better and a worse answer.
        tokenizer: gives the ids; null: one is trained on the documents kept.
        vocab_size: number of ids of the tokenizer to train.
        holdout: share of the documents kept from training, chosen by their ids; at least one.
        shard_megabytes: how much text a process works on at a time.
        executor: where the work runs; null: Local, on all cores of this machine.
    """

    def __init__(
        self,
        folder: str | None = None,
        readers: Sequence[Reader] = (),
        sources: Sequence[Source] = (),
        filters: Sequence[Filter] = (),
        scorers: Sequence[Scorer] = (),
        near_duplicates: MinHash | None = None,
        benchmarks: Sequence[str] = (),
        phases: Sequence[Query] | None = None,
        stricter: Sequence[Filter] = (),
        exercises: Sequence[Synthesizer] = (),
        exercise_profile: Literal["web", "curated", "code", "synthetic"] | None = None,
        exercise_filters: Sequence[Filter | Cleaner] = (),
        conversations: Sequence[Synthesizer] = (),
        preferences: Sequence[Synthesizer] = (),
        tokenizer: Tokenizer | None = None,
        vocab_size: Annotated[int, Bound(least=261, most=2**24)] | None = None,
        holdout: Annotated[float, Bound(above=0, below=0.5)] = 0.02,
        shard_megabytes: Positive = 256.0,
        executor: Executor | None = None,
    ) -> None:
        if (tokenizer is None) == (vocab_size is None):
            raise UserError("give either `tokenizer`, or the `vocab_size` of one to train on these documents")
        if not 0 < holdout < 0.5:
            raise UserError(f"holdout is {holdout}; give the share to hold out, above 0 and below 0.5")
        if not shard_megabytes > 0:
            raise UserError(f"shard_megabytes is {shard_megabytes}; give how much text to work on at a time, above 0")
        if not (readers or sources):
            raise UserError("there is nothing to read; give `readers` or `sources`")
        if phases is not None and (stricter or not phases):
            raise UserError(
                "`phases` says what each phase trains on; give at least one, and `stricter` as its `filters`"
            )
        if folder is not None and not Path(folder).is_dir():
            raise UserError(f"there is no folder {folder!r}; give the one that holds what is to be read")
        self.folder = str(Path(folder or ".").absolute())
        self.readers, self.sources, self.filters = readers, sources, filters
        self.scorers, self.near_duplicates, self.benchmarks = scorers, near_duplicates, benchmarks
        self.exercises, self.conversations, self.preferences = exercises, conversations, preferences
        rules = profile(exercise_profile) if exercise_profile else []
        self.made_rules: list[Filter | Cleaner] = [*rules, *exercise_filters]
        self.tokenizer, self.vocab_size, self.holdout = tokenizer, vocab_size, holdout
        self.shard_bytes = max(1, int(shard_megabytes * 2**20))
        self.executor = executor or Local()
        self.queries = list(phases) if phases is not None else _queries(stricter, exercises)
        if self.exercises and len(self.queries) < 2:
            raise UserError("exercises are synthetic and no text of the first phase; add a second to `phases`")
        self._check_names()
        aspects = [scorer.aspect for scorer in scorers]
        check_queries(self.queries, aspects, {} if readers else {s.name: s.synthetic for s in sources})

    def _check_names(self) -> None:
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"two sources are called {twice[0]!r}; give each a name of its own")

    def _glance_at_chats(self) -> None:
        """Raise `UserError` for files of chats that are not there or of an unknown shape, before the work begins."""
        with chdir(self.folder):
            for maker in (*self.conversations, *self.preferences):
                if isinstance(maker, ChatFile):
                    maker.glance()

    def run(self, out: Path, progress: Progress) -> dict[str, Any]:
        """Make the folder `out`, replacing one made before; return its manifest.

        Raises:
            UserError: bad input, nothing left of it, a full disk. What was in `out` stays as it was.
        """
        if out.exists() and not (out / MANIFEST).is_file():
            raise UserError(f"{out} exists and `prepare` did not make it; choose another `out`")
        self._glance_at_chats()
        store = Store(out.absolute().with_name(f"{out.name}.stages"), self.executor, progress)
        partial = out.with_name(f"{out.name}.partial")
        try:
            with store.lock():
                manifest = self._make(partial, Plan(self, store))
                move_into_place(partial, out)
                store.prune()
        except OSError as error:
            raise UserError(f"cannot write {partial}: {error.strerror or error}; {out} is as it was") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def what_if(self, out: Path, progress: Progress) -> str:
        """What each threshold would leave, in tokens, as a table; no tokens are written. Raises as `run` does."""
        if not self.scorers:
            raise UserError("there are no scores to choose by; give `scorers`")
        store = Store(out.absolute().with_name(f"{out.name}.stages"), self.executor, progress)
        with store.lock():
            return table(Plan(self, store).distributions())

    def _make(self, folder: Path, plan: Plan) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        parts = write_folder(folder, plan)
        manifest = manifest_of(plan, parts, folder)
        report = {"headline": headline(manifest), "seconds_of": plan.store.seconds}
        write_json(folder / "report.json", report)
        samples = Samples.merge(plan.files_of_all("samples.json"))
        (folder / "page.html").write_text(page(manifest, samples), encoding="utf-8")
        write_json(folder / MANIFEST, manifest)
        return manifest


def _queries(stricter: Sequence[Filter], exercises: Sequence[Synthesizer]) -> list[Query]:
    """The phases of recipes that name none."""
    web = Query("web")
    return [web, Query("reasoning", filters=stricter, synthetic=True)] if stricter or exercises else [web]
