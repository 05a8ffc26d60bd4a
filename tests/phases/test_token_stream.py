"""`most_tokens`: an equal number of different tokens, drawn by the seed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from phi3kit import UserError
from phi3kit.corpus import JSONLines, Preparation, Progress
from phi3kit.phases import TokenStream
from phi3kit.testing import tiny

ROW = 17


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stream")
    rows = [
        f'{{"text": "{" ".join(sha256(str(i * 99 + j).encode()).hexdigest() for j in range(3))}"}}' for i in range(40)
    ]
    (root / "docs.jsonl").write_text("\n".join(rows))
    readers = [JSONLines(str(root / "docs.jsonl"))]
    Preparation(readers=readers, tokenizer=tiny.tokenizer(), holdout=0.1).run(root / "data", Progress(quiet=True))
    return root / "data"


def rows(data: Path, part: str = "train", **options: int) -> list[tuple[int, ...]]:
    stream = TokenStream(tiny.tokenizer(), data, "web", context=ROW - 1, batch_size=2, **options)
    samples = stream.samples(part)
    return [tuple(samples[i].tolist()) for i in range(len(samples))]  # type: ignore[arg-type]


def test_so_many_different_tokens_and_no_more(data: Path) -> None:
    every = rows(data)
    assert len(set(every)) == len(every) > 20
    some = {seed: rows(data, most_tokens=10 * ROW + 5, seed=seed) for seed in (1, 2)}
    for drawn in some.values():
        assert len(drawn) == len(set(drawn)) == 10
        assert set(drawn) <= set(every)
    assert set(some[1]) != set(some[2])
    assert rows(data, most_tokens=10 * ROW + 5, seed=1) == some[1]
    assert rows(data, most_tokens=len(every) * ROW) == every
    assert rows(data, "heldout", most_tokens=ROW) == rows(data, "heldout"), "held-out data stays as it is"


@pytest.mark.parametrize("tokens", [ROW - 1, 10**6])
def test_more_than_there_are_is_refused(tokens: int, data: Path) -> None:
    with pytest.raises(
        UserError, match=rf"most_tokens is {tokens}, but .*web/train holds \d+ rows of 17 tokens; give 17"
    ):
        rows(data, most_tokens=tokens)
