"""Every net builds, on the meta device, with the number of parameters of the released model, to the last one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipe_folders import FOLDERS, content, need_plugin, with_factors

from phi3kit.model.load import build_net

MINI, MEDIUM, MINI4, SMALL = 3_821_079_552, 13_960_238_080, 3_836_021_760, 7_392_272_384
PARAMETERS = {
    "phi3-mini": MINI,
    "phi35-mini": MINI,
    "phi3-medium": MEDIUM,
    "phi4-mini": MINI4,
    "phi4-mini-reasoning": MINI4,
    "phi3-small": SMALL,
    "phi35-moe": 41_873_153_344,
    "phi-mini-moe": 7_647_632_704,  # inferred dimensions: they give SlimMoE's published totals
    "phi-tiny-moe": 3_755_220_288,  # inferred likewise
    "phi3-vision": 4_146_621_440,
    "phi35-vision": 4_146_621_440,
}
NETS = [file for folder in FOLDERS if folder.name in PARAMETERS for file in sorted(folder.glob("net*.yaml"))]


def test_every_model_has_a_net() -> None:
    assert {file.parent.name for file in NETS if file.name == "net.yaml"} == PARAMETERS.keys()


@pytest.mark.parametrize("file", NETS, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_a_net_has_the_parameters_of_the_released_model(file: Path, tmp_path: Path) -> None:
    assert file.read_text().startswith("# ")
    need_plugin(file.parent)
    section = content(*with_factors([file], tmp_path))["net"]
    with torch.device("meta"):
        net = build_net(section)
    assert net.parameter_count() == PARAMETERS[file.parent.name]
    assert all(parameter.is_meta for parameter in net.parameters())
