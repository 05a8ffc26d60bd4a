"""Frozen parameters stay as they are and cost no optimizer state; a net may begin with a run that lacks its vision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from arithmetic import RECIPE
from safetensors.torch import load_file

from phi3kit import UserError
from phi3kit.cli import main
from phi3kit.phases import Freeze, NextToken
from phi3kit.testing import tiny


def test_frozen_parameters_stay_and_the_others_learn(arithmetic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(arithmetic)
    callback = {"class_path": "Freeze", "init_args": {"parameters": ["layers.*.mlp.*", "embed_tokens.weight"]}}
    for out, steps, callbacks in (("before", 1, []), ("after", 6, [callback])):
        recipe = {**RECIPE, "trainer": {**RECIPE["trainer"], "max_steps": steps, "callbacks": callbacks}}
        recipe |= {"start_from": "before"} if out == "after" else {}
        (arithmetic / f"{out}.yaml").write_text(yaml.safe_dump(recipe))
        assert main(["fit", "--recipe", f"{out}.yaml", "--out", out]) == 0
    before, after = (load_file(arithmetic / run / "model.safetensors") for run in ("before", "after"))
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {name for name in before if ".mlp." in name or "embed_tokens" in name}
    checkpoint = torch.load(arithmetic / "after" / "checkpoints" / "step-00000006.ckpt", weights_only=True)
    averages = checkpoint["optimizer_states"][0]["state"]
    assert len(averages) == len(before) - len(still)


def test_patterns_that_name_nothing_or_everything_are_refused() -> None:
    phase = NextToken(tiny.net(), torch.optim.AdamW)
    with pytest.raises(UserError, match=r"no parameter of the net is called 'layers\.\*\.experts'.*layers\.0\.mlp"):
        Freeze(["layers.*.experts"]).setup(None, phase, "fit")
    with pytest.raises(UserError, match=r"Freeze: \* leaves nothing to learn"):
        Freeze(["*"]).setup(None, phase, "fit")
