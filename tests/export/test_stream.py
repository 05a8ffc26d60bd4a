"""A net quantized part by part is the net quantized at once; what was kept is used again, and only where it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from phi3kit.checkpoints import convert
from phi3kit.checkpoints.source import PublicSource
from phi3kit.export.stream import FOLDER, Stream, kept_net
from phi3kit.model.load import load_run
from phi3kit.model.source import RandomSource, RunSource, Source, whole_net
from phi3kit.quantizers import Int8DynamicInt4Weight

IDS = torch.arange(24)[None]
TINY = {
    "dims": {"vocab_size": 96, "hidden_size": 64, "n_layers": 2, "n_heads": 4, "intermediate_size": 128, "context": 64},
    "attention": [{"class_path": "GroupedQueryAttention"}],
    "feed_forward": [{"class_path": "GatedMLP"}],
    "position": {"class_path": "RoPE"},
}


def told(names: list[str]):
    return lambda done, count, name: names.append(name)


@pytest.fixture(scope="module")
def public(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_run` as Hugging Face lays it out."""
    folder = tmp_path_factory.mktemp("public") / "tiny"
    convert(tiny_run, folder)
    return folder


@pytest.mark.parametrize("kind", ["run", "public"])
@pytest.mark.parametrize("method", ["hqq", "plain"])
def test_part_by_part_is_at_once(kind, method, tiny_run, public, tmp_path):
    source: Source = RunSource(tiny_run) if kind == "run" else PublicSource(public)
    got = Stream(source, Int8DynamicInt4Weight(method=method), tmp_path / FOLDER).run()
    at_once = load_run(tiny_run).float()
    Int8DynamicInt4Weight(method=method).quantize(at_once)
    assert torch.equal(got(IDS), at_once(IDS))
    again = kept_net(source.section, tmp_path / FOLDER)
    assert torch.equal(again(IDS), at_once(IDS))


def test_without_a_quantizer_it_is_the_float_net(tiny_run, tmp_path):
    got = Stream(RunSource(tiny_run), None, tmp_path).run()
    assert torch.equal(got(IDS), load_run(tiny_run).float()(IDS))
    assert torch.equal(whole_net(RunSource(tiny_run))(IDS), load_run(tiny_run).float()(IDS))


def test_a_tied_head_gets_bits_of_its_own(tmp_path):
    section = TINY | {"tied": True}
    source = RandomSource(section, seed=0)
    net = Stream(source, Int8DynamicInt4Weight(embedding_bits=4, embedding_group=32), tmp_path).run()
    assert (net.embed_tokens.weight.target_dtype, net.lm_head.weight.target_dtype) == (torch.int4, torch.int8)
    assert torch.equal(source.tensor("lm_head.weight"), source.tensor("embed_tokens.weight"))


def test_stopped_and_started_again_only_the_rest_is_quantized(tiny_run, tmp_path, monkeypatch):
    quantize, done = Int8DynamicInt4Weight.quantize, []

    def stops_at_the_second_block(self, part, name=""):
        if name == "layers.1":
            raise KeyboardInterrupt
        done.append(name)
        quantize(self, part, name)

    monkeypatch.setattr(Int8DynamicInt4Weight, "quantize", stops_at_the_second_block)
    with pytest.raises(KeyboardInterrupt):
        Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path).run()
    assert done == ["embed_tokens", "layers.0"]

    def remembers(self, part, name=""):
        done.append(name)
        quantize(self, part, name)

    monkeypatch.setattr(Int8DynamicInt4Weight, "quantize", remembers)
    done.clear()
    stream = Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path)
    net = stream.run()
    assert done == ["layers.1", "lm_head"]
    assert stream.reused == 2
    undisturbed = Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path / "other").run()
    assert torch.equal(net(IDS), undisturbed(IDS))


def test_another_quantizer_or_other_weights_begin_afresh(tiny_run, tmp_path):
    Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path).run()
    for quantizer, reused in ((Int8DynamicInt4Weight(), 5), (Int8DynamicInt4Weight(method="plain"), 0)):
        stream = Stream(RunSource(tiny_run), quantizer, tmp_path)
        stream.run()
        assert stream.reused == reused
    for seed, reused in ((0, 0), (0, 5), (1, 1)):  # the norm is ones whatever the seed
        stream = Stream(RandomSource(TINY, seed), Int8DynamicInt4Weight(), tmp_path)
        stream.run()
        assert stream.reused == reused


def test_a_damaged_part_is_made_again(tiny_run, tmp_path):
    wanted = Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path).run()(IDS)
    file = tmp_path / "0001-layers.0.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    stream = Stream(RunSource(tiny_run), Int8DynamicInt4Weight(), tmp_path)
    assert torch.equal(stream.run()(IDS), wanted)
    assert stream.reused == 4


def test_random_weights_are_the_same_in_any_order_and_spread_as_they_should():
    one, other = RandomSource(TINY, 0), RandomSource(TINY, 0)
    names = list(one.net.state_dict())
    forwards = {name: one.tensor(name) for name in names}
    assert all(torch.equal(other.tensor(name), forwards[name]) for name in reversed(names))
    matrix = forwards["layers.0.mlp.gate_up_proj.weight"]
    assert matrix.dtype == torch.bfloat16
    assert float(matrix.float().std()) == pytest.approx(0.02, rel=0.02)
    assert not torch.equal(matrix, RandomSource(TINY, 1).tensor("layers.0.mlp.gate_up_proj.weight"))
    assert not torch.equal(matrix, forwards["layers.1.mlp.gate_up_proj.weight"])
    assert torch.equal(forwards["norm.weight"], torch.ones(64))


def test_progress_names_every_part(tmp_path):
    names: list[str] = []
    Stream(RandomSource(TINY, 0), None, tmp_path).run(told(names))
    assert names == ["embed_tokens", "layers.0", "layers.1", "norm", "lm_head", ""]
