"""A conversation that reaches the end of the context ends there, and the next one begins as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from phi3kit import UserError, bundle
from phi3kit.export.runner import Runner
from phi3kit.serve import BundleEngine


@pytest.fixture(scope="module")
def program(tiny_bundle: Path) -> bundle.Bundle:
    return bundle.read(tiny_bundle)


def ids(count: int) -> list[int]:
    return [40 + i % 50 for i in range(count)]


def test_the_runner_fills_the_context_and_then_refuses(program, tmp_path):
    runner = Runner(program.model, program.about["vocab_size"], tmp_path)
    first = runner.generate(ids(program.context - 4), 50)
    assert 0 < len(first.ids) <= 4
    with pytest.raises(RuntimeError):
        runner.generate(ids(5), 50)
    with pytest.raises(RuntimeError):
        Runner(program.model, program.about["vocab_size"], tmp_path).generate(ids(program.context), 50)
    runner.reset()
    assert runner.generate(ids(program.context - 4), 50) == first


def test_the_engine_refuses_before_the_program_does(program):
    engine = BundleEngine(program.model)
    engine.ingest(ids(program.context - 1))
    with pytest.raises(UserError, match=f"2 tokens more do not fit: {program.context - 1} of {program.context}"):
        engine.ingest(ids(2))
    engine.ingest(ids(1))
    assert engine.position == program.context
