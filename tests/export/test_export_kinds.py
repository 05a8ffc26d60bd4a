"""`phi3kit export` of every kind of cache and of a net that sees, from recipe to proven bundle."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recipe_folders import RECIPES, need_plugin
from shrunk_family import CONTEXT, section, taught

from phi3kit import bundle
from phi3kit.cli import main
from phi3kit.corpus.tokens import TokenWriter
from phi3kit.model import weights
from phi3kit.testing import tiny
from phi3kit.text import save_tokenizer

pytestmark = pytest.mark.slow
QUANTIZER = {"class_path": "Int8DynamicInt4Weight"}


def exported(folder: Path, recipe: dict[str, Any]) -> tuple[bundle.Bundle, dict[str, dict[str, Any]]]:
    """The bundle of a recipe, and its proof's points by name; `verify` has proven it a second time."""
    logging.getLogger("torch.__trace").handlers.clear()  # pytest's, for which torch writes all that it traces
    file, out = folder / "export.yaml", folder / "out"
    file.write_text(json.dumps({"verb": "export", "name": "kind", "out": str(out), "quantizer": QUANTIZER} | recipe))
    assert main(["export", "--recipe", str(file)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["verification"]["holds"]
    assert main(["verify", str(out), "--report", str(folder / "again")]) == 0
    assert json.loads((folder / "again" / "verification.json").read_text())["holds"]
    return bundle.read(out), {point["name"]: point for point in report["verification"]["points"]}


@pytest.mark.parametrize(
    ("options", "context", "remembers"),
    [
        ({"cache": "int8"}, 128, 128),
        ({"at_end": "slide", "context": 64}, 512, 64),
        ({"at_end": "slide", "context": 64, "cache": "int8"}, 512, 64),
    ],
    ids=["int8", "slide", "slide-int8"],
)
def test_every_kind_of_cache(options, context, remembers, tiny_run, memorised, tmp_path):
    talk = list(memorised)[:2]
    found, points = exported(tmp_path, {"start_from": str(tiny_run), "talk": talk, **options})
    about, runner = found.about, points["runner"]["numbers"]
    assert (about["context"], about["remembers"]) == (context, remembers)
    assert about["cache"] == options.get("cache", "float")
    assert points["logits"]["numbers"]["positions"] > 2 * remembers
    assert runner["tokens"] > 100
    assert min(runner["rewind"]["back"]) > 0
    assert runner["end"]["read"] > remembers / 2
    slides = "slide" in options.values()
    assert (runner["end"]["read"] > remembers) is slides, "a conversation that slides is read beyond what is remembered"
    assert any("in a cache that slides" in line for line in points["runner"]["told"]) is slides
    turns = json.loads((found.folder / "report.json").read_text())["conversation"]
    assert turns[0]["answer"] == memorised[talk[0]]


def test_a_net_that_sees(memorised, tmp_path):
    need_plugin(RECIPES / "phi3-vision")
    tokenizer, run = tiny.tokenizer(), tmp_path / "run"
    net = section("phi3-vision/net.yaml", tokenizer.vocab_size)
    run.mkdir()
    weights.save(taught(net, memorised, tokenizer), run)
    save_tokenizer(tokenizer, run / "tokenizer")
    (run / "config.yaml").write_text(yaml.safe_dump({"verb": "fit", "net": net}))
    found, points = exported(tmp_path, {"start_from": str(run), "crops": [1, 2]})
    assert found.about["vision"]["crops"] == [1, 2]
    assert found.about["context"] == CONTEXT
    seen = points["runner"]["numbers"]["vision"]
    assert (seen["images"], seen["tokens"] > 3) == (3, True)
    assert any("on 3 images in MultimodalRunner" in line for line in points["runner"]["told"])


def test_random_weights_on_text(tmp_path):
    """What nothing was trained for: no conversation means anything, the numbers of blocks and text do."""
    heldout = tmp_path / "heldout"
    heldout.mkdir()
    ids = torch.randint(512, (300,), generator=torch.Generator().manual_seed(0))
    with TokenWriter(heldout) as chunks:
        chunks.write(ids.numpy().astype("uint16"))
    net = {
        "dims": {"vocab_size": 512, "hidden_size": 64, "n_layers": 2, "n_heads": 4, "intermediate_size": 128}
        | {"context": 128},
        "attention": [{"class_path": "GroupedQueryAttention", "init_args": {"window": 40}}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    }
    found, _ = exported(tmp_path, {"random": 0, "net": net, "heldout": str(heldout)})
    report = json.loads((found.folder / "report.json").read_text())
    text = report["heldout"]
    assert text["tokens"] == 2 * 127
    assert list(text["perplexity"]) == ["float", "quantized", "program"]
    assert 0 < text["kl_to_float"]["program"] < 0.01
    assert text["kl_to_float"]["program"] == pytest.approx(text["kl_to_float"]["quantized"], rel=0.1)
    assert len(report["block_errors"]) == 2
    assert sorted(report["seconds"]) == ["blocks", "held-out text", "lower", "prove", "quantize"]
