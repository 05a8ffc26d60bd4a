"""What turns the weights survives both ways: transformers opens what is written, with the run's logits.

A config says it in one of two ways, transformers 4's and 5's, or in both. Each is trained on with another theta or
context or other lists, and goes back. April's name of LongRoPE goes back as today's.
"""

from __future__ import annotations

import copy
import json
import os

import pytest
import torch
import yaml
from public_checkpoints import LONG, MODELS, SHORT, write_checkpoint

from phi3kit import torchvision_ops
from phi3kit.checkpoints import convert
from phi3kit.checkpoints.origin import Origin
from phi3kit.model import weights
from phi3kit.model.load import build_net, load_run, net_section
from phi3kit.model.public_config import position_section

torchvision_ops.declare()
from transformers import AutoModelForCausalLM  # noqa: E402

PLAIN = {name: {**config, "sliding_window": None, "torch_dtype": "float32"} for name, config in MODELS.items()}


def as_five(config, both=False):
    """A config with ``rope_parameters``, as transformers 5 saves it; `both`: the old fields stay."""
    rope = dict(config["rope_scaling"] or {"type": "default"})
    rope = {"rope_type": rope.pop("type"), **rope, "rope_theta": config["rope_theta"]}
    rope |= {name: config[name] for name in ("partial_rotary_factor",) if name in config}
    if config["rope_scaling"]:
        rope["original_max_position_embeddings"] = config["original_max_position_embeddings"]
    old = ("rope_theta", "rope_scaling", "partial_rotary_factor")
    return {**{name: v for name, v in config.items() if both or name not in old}, "rope_parameters": rope}


def nothing(section):
    """Only other weights."""


def other_theta(section):
    section["position"]["init_args"]["theta"] = 500000.0


def longer(section):
    options = section["position"]["init_args"]
    width = int(section["dims"]["hidden_size"] / section["dims"]["n_heads"] * options.get("rotary_fraction", 1.0)) // 2
    lists = {"short_factor": [1.0] * width, "long_factor": [1.0 + 0.5 * i for i in range(width)]}
    section["position"] = {"class_path": "LongRoPE", "init_args": {**options, **lists, "original_context": 32}}
    section["dims"]["context"] = 256


def whole_heads(section):
    section["position"]["init_args"].pop("rotary_fraction", None)
    longer(section)


def logits_agree(folder, net):
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    for length in (7, 33, 100):
        ids = torch.randint(0, 288, (1, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            wanted, got = theirs(ids).logits, net(ids)
        assert float((wanted - got).abs().max()) < 1e-5 * float(wanted.abs().max()), length


@pytest.mark.parametrize("change", [nothing, other_theta, longer, whole_heads], ids=lambda f: f.__name__)
@pytest.mark.parametrize("form", ["four", "five", "both"])
@pytest.mark.parametrize("name", ["mini-4k", "mini-128k", "phi-4", "phi-4-mini"])
def test_what_was_trained_goes_back(name, form, change, tmp_path):
    config = {**PLAIN[name], "rope_theta": 250000.0}
    config = config if form == "four" else as_five(config, both=form == "both")
    public = write_checkpoint(tmp_path / "public", config)
    convert(public, tmp_path / "run")
    logits_agree(public, load_run(tmp_path / "run", torch.float32))
    section = copy.deepcopy(net_section(tmp_path / "run"))
    change(section)
    net = build_net(section)
    weights.load_into(net, tmp_path / "run")
    trained = tmp_path / "trained"
    trained.mkdir()
    with torch.no_grad():
        net.norm.weight += 0.25
    weights.save(net.float(), trained)
    start = os.fspath(tmp_path / "run")
    (trained / "config.yaml").write_text(yaml.safe_dump({"verb": "fit", "start_from": start, "net": section}))
    convert(trained, tmp_path / "back")
    logits_agree(tmp_path / "back", net.eval())
    written = json.loads((tmp_path / "back/config.json").read_text())
    assert position_section(written) == section["position"]
    assert ("rope_parameters" in written) == (form != "four")


@pytest.mark.parametrize("five", [False, True])
def test_april_s_name_goes_back_as_today_s(five, tmp_path):
    config = PLAIN["mini-128k-april"]
    public = write_checkpoint(tmp_path / "public", as_five(config) if five else config)
    convert(public, tmp_path / "run")
    convert(tmp_path / "run", tmp_path / "back")
    logits_agree(tmp_path / "back", load_run(tmp_path / "run", torch.float32))
    assert '"su"' not in (tmp_path / "back/config.json").read_text()


def test_code_that_knows_only_april_s_name_keeps_it(tmp_path):
    public = write_checkpoint(tmp_path / "public", PLAIN["mini-128k-april"])
    (public / "configuration_phi3.py").write_text('if rope_scaling["type"] not in ["su", "yarn"]: raise ValueError\n')
    convert(public, tmp_path / "run")
    assert not Origin(tmp_path / "run/hugging_face").knows_longrope
    convert(tmp_path / "run", tmp_path / "back")
    assert json.loads((tmp_path / "back/config.json").read_text()) == PLAIN["mini-128k-april"]


@pytest.mark.parametrize(
    "said",
    [
        {"rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG, "rope_theta": 5e5}},
        {"rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG}, "rope_theta": 5e5},
        {"rope_parameters": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "rope_theta": 5e5}},
        {
            "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    ],
)
def test_theta_is_found_wherever_it_is_said(said):
    section = position_section({"max_position_embeddings": 128, "original_max_position_embeddings": 32, **said})
    assert section["class_path"] == "LongRoPE"
    assert section["init_args"]["theta"] == 5e5
