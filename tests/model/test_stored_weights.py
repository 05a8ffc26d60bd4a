"""Weights on disk: files that are read without copies, nets that are built without numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from phi3kit import Decoder, UserError
from phi3kit.model import GatedMLP, weights
from phi3kit.model.load import build_net, load_run, net_section, whole_section
from phi3kit.model.tensor_file import Form, create, header, read
from phi3kit.testing import tiny

STATE = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "b": torch.ones(5, dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "scalar": torch.tensor(7, dtype=torch.int64),
}


def test_a_file_of_the_reference_writer_is_read(tmp_path):
    save_file(STATE, tmp_path / "file")
    file = read(tmp_path / "file")
    assert file.forms == {name: Form(x.dtype, tuple(x.shape)) for name, x in STATE.items()}
    assert all(torch.equal(file.tensor(name), tensor) for name, tensor in STATE.items())


def test_the_reference_reader_reads_what_is_written(tmp_path):
    forms = {name: Form(x.dtype, tuple(x.shape)) for name, x in STATE.items()}
    file = create(tmp_path / "file", header(forms))
    for name, tensor in STATE.items():
        file.tensor(name).copy_(tensor)
    file.forget()
    file.finish()
    found = load_file(tmp_path / "file")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("place", [(), (slice(2, 5),), (slice(None), slice(1, 3)), (3,), (3, 1)])
def test_filling_a_part_of_a_tensor(tmp_path, place):
    """Rows are written past the mapping, columns through it; both convert."""
    file = create(tmp_path / "file", header({"before": Form(torch.int8, (8,)), "x": Form(torch.bfloat16, (6, 4))}))
    wanted = torch.zeros(6, 4)
    wanted[place] = torch.arange(24.0).view(6, 4)[place] + 1
    file.fill(file.tensor("x")[place], wanted[place])
    file.forget()
    assert torch.equal(file.tensor("x"), wanted.bfloat16())
    file.finish()
    assert torch.equal(load_file(tmp_path / "file")["x"], wanted.bfloat16())
    assert not load_file(tmp_path / "file")["before"].any()


def test_a_changed_tensor_does_not_reach_the_file_it_was_read_from(tmp_path):
    save_file(STATE, tmp_path / "file")
    read(tmp_path / "file").tensor("a").zero_()
    assert torch.equal(load_file(tmp_path / "file")["a"], STATE["a"])


@pytest.mark.parametrize("damage", ["cut", "no header", "not there"])
def test_a_damaged_file_is_named(tmp_path, damage):
    save_file(STATE, tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    if damage == "not there":
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "file").write_bytes(whole[:-3] if damage == "cut" else b"\xff" * 40)
    with pytest.raises(UserError, match=r"file is damaged \(.*\); restore or download that file again"):
        read(tmp_path / "file")


def test_an_unknown_type_is_named(tmp_path):
    save_file({"w": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "file")
    with pytest.raises(UserError, match=r"file: w is of type F8_E4M3; F64, F32, .* can be read"):
        read(tmp_path / "file")


def anonymous() -> int:
    """Bytes of this process's memory that no file stands behind (proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.fixture
def large_run(tmp_path):
    """A run whose weights are 128 MiB of float32."""
    section = {
        "dims": {"vocab_size": 2**17, "hidden_size": 128, "n_layers": 1, "n_heads": 4},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    }
    weights.save(build_net(section), tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps({"verb": "fit", "net": section}))
    return tmp_path


def test_loading_a_run_takes_no_memory_of_its_own(large_run):
    build_net(net_section(large_run), "meta")  # what the first call of the parser takes
    before = anonymous()
    net = load_run(large_run)
    assert anonymous() - before < 16 * 2**20
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert net(tokens).isfinite().all()
    state = load_file(large_run / "model.safetensors")
    assert all(torch.equal(p, state[weights.to_hugging_face(name)]) for name, p in net.named_parameters())


def test_loading_as_another_type(large_run):
    net = load_run(large_run, torch.bfloat16)
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}


def test_building_on_the_meta_device_takes_nothing():
    section = {
        "dims": {"vocab_size": 32064, "hidden_size": 5120, "n_layers": 40, "n_heads": 40, "n_kv_heads": 10}
        | {"intermediate_size": 17920},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
    }
    net = build_net(section, "meta")
    assert net.parameter_count() == 13_960_238_080
    assert {p.device.type for p in net.parameters()} == {"meta"}


class WithAPattern(nn.Module):
    """A feed-forward that makes a tensor of its own when it is built."""

    def __init__(self, dims, layer):
        super().__init__()
        self.inner = GatedMLP(dims, layer)
        self.sign = torch.tensor([1.0, -1.0]).repeat(dims.hidden_size // 2)

    def forward(self, x_BTD):
        return self.inner(x_BTD) * self.sign


def test_a_component_that_makes_tensors_of_its_own_loads_too(tmp_path, monkeypatch):
    from phi3kit.model import GroupedQueryAttention, RoPE

    def build(section, device=None):
        with torch.device(device or "cpu"):
            return Decoder(tiny.dims(), [GroupedQueryAttention], [WithAPattern], RoPE)

    monkeypatch.setattr("phi3kit.model.load.build_net", build)
    net = build({})
    weights.save(net, tmp_path)
    (tmp_path / "config.yaml").write_text("net: {}")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(load_run(tmp_path)(tokens), net(tokens))


def test_a_tied_head_stays_tied_and_counts_once(tmp_path):
    net = tiny.net()
    tied = Decoder(tiny.dims(), [lambda d, i: net.layers[i].self_attn], [GatedMLP], lambda d: net.position, tied=True)
    weights.save(tied, tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    with torch.device("meta"):
        fresh = tiny.Decoder(tiny.dims(), [tiny.GroupedQueryAttention], [GatedMLP], tiny.RoPE, tied=True)
    weights.assign_to(fresh, tmp_path)
    assert fresh.lm_head.weight is fresh.embed_tokens.weight
    assert fresh.parameter_count() == tied.parameter_count()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(fresh.eval()(tokens), tied.eval()(tokens))


def test_weights_of_another_net_are_refused(tmp_path):
    net = tiny.net()
    weights.save(net, tmp_path)
    other = tiny.net(tiny.dims(vocab_size=97))
    message = r"lm_head\.weight is \[96, 32\], the recipe's net wants \[97, 32\]"
    for load in (weights.load_into, weights.assign_to):
        with pytest.raises(UserError, match=message):
            load(other, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"holds another net: missing \['norm\.weight'\], unexpected \[\]"):
        weights.load_into(net, tmp_path)
    with pytest.raises(UserError, match=r"no weights at .*nowhere.*; is .* a finished run\?"):
        weights.load_into(net, tmp_path / "nowhere")


def test_loading_into_a_net_converts_and_copies(tmp_path):
    net = tiny.net(seed=1)
    weights.save(net.bfloat16(), tmp_path)
    into = tiny.net(seed=2)
    weights.load_into(into, tmp_path)
    assert into.norm.weight.dtype == torch.float32
    assert all(torch.equal(a, b.float()) for a, b in zip(into.parameters(), net.parameters(), strict=True))


def test_a_whole_section_says_every_default_under_short_names():
    short = {
        "dims": {"vocab_size": 96, "hidden_size": 32, "n_layers": 2, "n_heads": 4},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "phi3kit.model.feed_forward.GatedMLP"}],
        "position": {"class_path": "RoPE", "init_args": {"theta": 500.0}},
    }
    before = json.dumps(short)
    whole = whole_section(short)
    assert json.dumps(short) == before
    assert whole["attention"] == [{"class_path": "GroupedQueryAttention", "init_args": {"window": None, "bias": False}}]
    assert whole["feed_forward"][0]["class_path"] == "GatedMLP"
    assert whole["position"]["init_args"] == {"theta": 500.0, "rotary_fraction": 1.0}
    assert whole["tied"] is False
    assert whole_section(whole) == whole
