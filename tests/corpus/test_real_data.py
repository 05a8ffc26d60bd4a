"""The phi-3-mini recipe on real files beside the checkout: from the command line to tokens and a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from phi3kit import cli


@pytest.mark.slow
def test_phi3_mini_prepares_the_real_data(
    shared_data: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = repository / "recipes/phi3-mini/1-prepare.yaml"
    given = {
        "--recipe": recipe, "--out": tmp_path / "out", "--preparation.folder": shared_data,
        "--preparation.tokenizer": "HuggingFaceTokenizer",
        "--preparation.tokenizer.file": shared_data / "tokenizers/phi-3-mini/tokenizer.json",
    }  # fmt: skip
    arguments = [str(part) for pair in given.items() for part in pair]
    assert cli.main(["prepare", *arguments, "--what_if", "true"]) == 0
    assert "reasoning >=" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert cli.main(["prepare", *arguments]) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    sources = manifest["sources"]
    assert sources["textbooks"]["sifted"] == sources["textbooks"]["read"] == 39  # the web's rules keep none of 38
    assert sources["problems"]["sifted"] > 0.99 * sources["problems"]["read"]
    assert 0 < sources["web texts"]["sifted"] < 0.8 * sources["web texts"]["read"]
    assert manifest["parts"]["web"]["train"]["tokens"] > 2_500_000
    assert manifest["parts"]["reasoning"]["train"]["tokens"] < manifest["parts"]["web"]["train"]["tokens"]
    assert len(manifest["benchmarks"]["files"]) == 9
    assert "What each threshold would leave" in (tmp_path / "out/page.html").read_text()
    web, reasoning = (
        set((tmp_path / "out" / p / "documents.txt").read_text().split("\n")) for p in ("web", "reasoning")
    )
    assert reasoning < web
