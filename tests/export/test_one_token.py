"""Programs that read one token at a time: their logits are the net's, in fp16 too, and TextLLMRunner runs them."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from recipe_folders import RECIPES, need_plugin
from shrunk_family import CONTEXT, recipe_names, section

from phi3kit import UserError
from phi3kit.export import XNNPACK, CoreML, Program, metadata, trace
from phi3kit.export.device import for_device
from phi3kit.export.one_token import InRange
from phi3kit.export.runner import Runner
from phi3kit.model import Decoder, GroupedQueryAttention
from phi3kit.model.load import build_net
from phi3kit.quantizers import WeightOnly
from phi3kit.testing import tiny
from phi3kit.testing.export_laws import delegates_of

IDS = torch.randint(96, (24,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize("file", recipe_names(), ids=lambda file: str(file.relative_to(RECIPES)))
@torch.no_grad()
def test_its_logits_are_the_nets(file: Path) -> None:
    need_plugin(file.parent)
    torch.manual_seed(0)
    name = str(file.relative_to(RECIPES))
    net = build_net(section(name, 320) | {"init_std": 0.2, "init_scale": None}).eval()
    ids = torch.randint(320, (CONTEXT,))
    wanted_TV = copy.deepcopy(net)(ids[None])[0]
    got_TV = Program(net, CONTEXT, form="one token").every_logit(ids.tolist())
    used = [i for i in range(320) if i not in net.unused_ids]
    torch.testing.assert_close(got_TV[:, used], wanted_TV[:, used], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["phi3-mini", "phi3-medium", "phi3-small", "phi35-mini", "phi35-moe", "phi4-mini"])
def test_coreml_takes_it_whole(model: str) -> None:
    """Windows, the long list of LongRoPE, a part of each head that is rotated, a tied head."""
    need_plugin(RECIPES / model)
    net = build_net(section(f"{model}/net.yaml", 320)).eval()
    for_device(net)
    WeightOnly().quantize(net)
    program = Program(net, CONTEXT, form="one token")
    assert delegates_of(CoreML().lower(trace(program), {})) == {"CoreMLBackend"}


@torch.no_grad()
def test_a_window_is_kept() -> None:
    net = tiny.net(attention=partial(GroupedQueryAttention, window=8))
    wanted_TV = net(torch.tensor([IDS]))[0]
    got_TV = Program(net, 64, form="one token").every_logit(IDS)
    torch.testing.assert_close(got_TV, wanted_TV, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_norms_are_in_range_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """One number of each embedding is 1000 times the others, as those of trained nets may be."""
    net = tiny.net()
    net.embed_tokens.weight[:, 3] *= 1000
    wanted_TV = net(torch.tensor([IDS]))[0]
    program = Program(net, 32, form="one token").half()
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)  # norms compute in fp16 as well
    assert (program.every_logit(IDS) - wanted_TV).abs().max() < 0.02
    _without_range(net)
    assert (program.every_logit(IDS) - wanted_TV).abs().max() > 1, "what the range is for"


def _without_range(net: Decoder) -> None:
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, InRange):
                setattr(module, name, child.norm)


def test_runner_reads_prompts_token_by_token_and_ends_at_the_context(tmp_path: Path) -> None:
    net = tiny.net()
    program = Program(copy.deepcopy(net), 32, form="one token")
    model = tmp_path / "x.pte"
    model.write_bytes(XNNPACK().lower(trace(program), metadata(program, eos_ids=[95], bos_id=None)))
    runner = Runner(model, 96, tmp_path)
    first, second = runner.generate(IDS[:8], 6), runner.generate([IDS[0]], 6)
    assert (first.read, second.read) == (8, 1)
    assert first.ids == _greedy(net, IDS[:8], 6)
    assert second.ids == _greedy(net, [*IDS[:8], *first.ids[:-1], IDS[0]], 6)
    runner.reset()
    assert len(runner.generate(IDS + IDS[:6], 20).ids) == 2, "30 of 32 tokens are the prompt's"
    runner.reset()
    with pytest.raises(RuntimeError, match="Generation failed"):
        runner.generate(IDS + IDS[:8], 20)


@torch.no_grad()
def _greedy(net: Decoder, ids: list[int], count: int) -> list[int]:
    whole = list(ids)
    for _ in range(count):
        whole.append(int(net(torch.tensor([whole]))[0, -1].argmax()))
    return whole[len(ids) :]


def test_attention_that_reads_its_cache_itself_is_refused() -> None:
    cache = Program(tiny.net(), 16, form="one token").cache
    with pytest.raises(UserError, match="reads its cache itself, which a program of fixed shapes cannot; leave"):
        cache.append(0, torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))
