"""recipes/qat.yaml goes on top of any recipe that trains, and its groups fit every model's layers."""

from __future__ import annotations

import pytest
from recipe_folders import RECIPES

from phi3kit import recipe as recipes
from phi3kit.phases import QuantizationAware
from phi3kit.verbs.fit import declare

LAYER = RECIPES / "qat.yaml"


@pytest.mark.parametrize("under", ["pocket/5-sft.yaml", "phi3-mini/6-dpo.yaml"])
def test_it_lies_on_top_and_keeps_what_is_below(under):
    plain = recipes.merge(recipes.read_layers(RECIPES / under))
    config = recipes.read("fit", declare, ["--recipe", str(RECIPES / under), "--recipe", str(LAYER)]).config
    kept = [callback["class_path"] for callback in plain["trainer"].get("callbacks", [])]
    names = [callback.class_path.rpartition(".")[2] for callback in config.trainer.callbacks]
    assert names == [*kept, QuantizationAware.__name__]
    assert config.phase.class_path.endswith(plain["phase"]["class_path"])
    assert config.phase.init_args.optimizer.init_args.lr == 2e-5
    assert config.trainer.callbacks[-1].init_args.quantizer.init_args.method == "plain"


def test_groups_of_32_fit_every_model():
    nets = sorted(RECIPES.glob("*/net.yaml"))
    assert len(nets) >= 10
    for file in nets:
        dims = recipes.merge(recipes.read_layers(file))["net"]["dims"]
        assert dims["hidden_size"] % 32 == dims["intermediate_size"] % 32 == 0, file
