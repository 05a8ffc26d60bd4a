"""What a language model writes, behind any OpenAI-compatible endpoint: the same whenever it is run again.

datatrove's InferenceRunner moves the requests (`runner`); what is asked, and what of the answers is good, is said here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, final

from phi3kit.corpus.annotators.endpoint import Endpoint, Reply, request
from phi3kit.corpus.chats import split_of
from phi3kit.corpus.synthesis.asked import Asked
from phi3kit.corpus.synthesis.seeds import passages, read_seeds
from phi3kit.corpus.synthesis.vote import MajorityVote
from phi3kit.errors import UserError
from phi3kit.families import Prompt, Refusal, Seed, Synthesizer
from phi3kit.records import Conversation, Document

if TYPE_CHECKING:
    from phi3kit.corpus.synthesis.runner import Generate

EACH = 64  # items per question at a time that are worked on before the first of them is passed on
Item = tuple[Seed, int]  # a seed, number of the sample
Written = list[Document | Conversation | Refusal]


@final
class LanguageModelSynthesizer(Synthesizer):
    """Asks a model to write, about seeds of a file or about the documents it is given.

    The API key comes from the environment and is written nowhere.

    Args:
        url: the part before /chat/completions, e.g. http://localhost:8000/v1 (vLLM, llama.cpp, `phi3kit serve`, …).
        model: its name there (of `phi3kit serve`: the folder's, or `--name`).
        answers: JSONL file that keeps every answer; an interrupted run goes on from it and asks nothing twice.
        prompt: what to ask for.
        seeds: file of topics, one per line, or of problems (.jsonl, as GSM8K's); null: the documents are the seeds.
        share: share of the seeds to ask about, chosen by their ids.
        most_seeds: no more seeds than this; null: no limit.
        per_seed: answers to ask for about each seed.
        temperature: of the sampling.
        seed: of the sampling.
        vote: check the final answers of exercises by a vote; null: no vote.
        source: what the texts are called by their source.
        holdout: share of the conversations kept from training, by their seeds.
        first_characters: how much of a document is shown.
        max_tokens: longest answer; one that is cut off there is refused.
        concurrency: questions at a time.
        timeout: seconds to wait for one.
        retries: how often to try again where the endpoint is busy.
        key_variable: environment variable that holds the API key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        answers: str,
        prompt: Prompt,
        seeds: str | None = None,
        share: float = 1.0,
        most_seeds: int | None = None,
        per_seed: int = 1,
        temperature: float = 0.8,
        seed: int = 0,
        vote: MajorityVote | None = None,
        source: str = "synthetic",
        holdout: float = 0.05,
        first_characters: int = 4000,
        max_tokens: int = 1024,
        concurrency: int = 8,
        timeout: float = 120.0,
        retries: int = 5,
        key_variable: str = "OPENAI_API_KEY",
    ) -> None:
        if per_seed < 1 or concurrency < 1:
            raise UserError(f"per_seed is {per_seed} and concurrency {concurrency}; both must be at least 1")
        if per_seed > 1 and temperature <= 0:
            raise UserError(f"{per_seed} answers per seed would be the same at temperature 0; raise it, or ask for one")
        if not 0 < share <= 1:
            raise UserError(f"share is {share:g}; give a share of the seeds, above 0 and at most 1")
        self.url, self.model, self.key_variable, self.timeout, self.retries = url, model, key_variable, timeout, retries
        self._endpoint()  # a wrong address is told now
        self.answers, self.prompt, self.seeds, self.share, self.most_seeds = answers, prompt, seeds, share, most_seeds
        self.per_seed, self.temperature, self.seed, self.vote = per_seed, temperature, seed, vote
        self.source, self.holdout, self.first_characters = source, holdout, first_characters
        self.max_tokens, self.concurrency = max_tokens, concurrency
        self._refused: Counter[str] = Counter()

    @property
    def version(self) -> str:
        """Hash of all that decides what is made: not where the model is, nor how patiently it is asked."""
        vote = (self.vote.samples, self.vote.temperature) if self.vote else None
        seeds = read_seeds(Path(self.seeds)) if self.seeds else None
        decides = [
            *(self.model, type(self.prompt).__name__, self.prompt.version, seeds, self.share, self.most_seeds),
            *(self.per_seed, self.temperature, self.seed, vote, self.source, self.holdout),
            *(self.first_characters, self.max_tokens, self.answers),
        ]
        return sha256(json.dumps(decides).encode()).hexdigest()[:16]

    def make(self, documents: Iterable[Document]) -> Iterator[Document | Conversation]:
        """What the answers hold, in the order of the seeds; each text once.

        Raises:
            UserError: the endpoint refuses or stays silent, or the prompt does not take such seeds. Answers are kept.
        """
        from phi3kit.corpus.synthesis.runner import run_all

        self._refused = Counter()
        asked = Asked(self._endpoint(), Path(self.answers))
        before: set[str] = set()
        items = ((seed, sample) for seed in self._seeds(documents) for sample in range(self.per_seed))
        while some := list(islice(items, EACH * self.concurrency)):
            written = run_all(self._write, some, self.model, asked, self.concurrency)
            for item, made in zip(some, written, strict=True):
                yield from self._finished(item, made, before)

    def refused(self) -> Mapping[str, int]:
        """Why answers of the last `make` are not among what it made: reason -> how many."""
        return dict(self._refused)

    def _endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.model, self.key_variable, self.timeout, self.retries)

    def _seeds(self, documents: Iterable[Document]) -> Iterator[Seed]:
        found = read_seeds(Path(self.seeds)) if self.seeds else passages(documents, self.first_characters)
        chosen = (seed for seed in found if self.share >= 1 or split_of(f"seed {seed.id}", self.share) == "heldout")
        for seed in islice(chosen, self.most_seeds):
            if seed.kind not in self.prompt.takes:
                takes = " or a ".join(sorted(self.prompt.takes))
                raise UserError(
                    f"{type(self.prompt).__name__} takes a {takes} and no {seed.kind} ({seed.id}); "
                    "give other `seeds`, or another `prompt`"
                )
            yield seed

    async def _write(self, item: Item, generate: Generate) -> Written:
        """One answer, read and voted on."""
        seed, sample = item
        text, whole = await self._ask(generate, self.prompt.message(seed), self.temperature, sample)
        if not whole:
            return [Refusal("cut off: longer than max_tokens")]
        made = self.prompt.read(seed, text)
        if isinstance(made, Refusal):
            return [made]
        return [(await self._outvoted(generate, one) if self.vote else None) or one for one in made]

    async def _outvoted(self, generate: Generate, made: Document | Conversation) -> Refusal | None:
        vote = self.vote
        assert vote is not None

        async def solve(message: str, n: int) -> str:
            # numbered after the samples of the seeds: none of them is the solution it judges
            return (await self._ask(generate, message, vote.temperature, self.per_seed + n)).text

        return await vote.judge(made, solve)

    async def _ask(self, generate: Generate, message: str, temperature: float, sample: int) -> Reply:
        """The answer number `sample` to a message."""
        from phi3kit.corpus.synthesis.runner import CUT_OFF

        seed = int.from_bytes(sha256(f"{self.seed} {sample}".encode()).digest()[:4], "big") >> 1
        body = request(self.model, message, self.max_tokens, temperature) | {"seed": seed}
        answer = await generate(body)
        return Reply(answer.text, answer.finish_reason != CUT_OFF)

    def _finished(self, item: Item, written: Written, before: set[str]) -> Iterator[Document | Conversation]:
        for each in written:
            if isinstance(each, Refusal):
                self._refused[each.reason] += 1
                continue
            made = self._named(each, *item)
            if made.id in before:
                self._refused["the same as one before"] += 1
            else:
                before.add(made.id)
                yield made

    def _named(self, made: Document | Conversation, seed: Seed, sample: int) -> Document | Conversation:
        """With an id of its content, and where it comes from."""
        text = made.text if isinstance(made, Document) else "\n".join(turn.content for turn in made.messages)
        prompt = type(self.prompt).__name__
        name = sha256(json.dumps([self.model, prompt, self.prompt.version, text]).encode()).hexdigest()[:16]
        about = {
            "made_from": seed.id, "prompt": f"{prompt} {self.prompt.version}", "model": self.model, "sample": sample,
        }  # fmt: skip
        if isinstance(made, Document):
            return replace(made, id=f"{self.source}/{name}", source=self.source, metadata=made.metadata | about)
        split = split_of(seed.id, self.holdout)
        return replace(made, id=f"{self.source}/{name}", metadata={"split": split, **made.metadata, **about})
