"""Every model of the family as a program: the eager one equals the net, the lowered one passes the whole proof."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_folders import RECIPES, need_plugin
from shrunk_family import CONTEXT, ORIGINAL, recipe_names, section, taught

from phi3kit.export import XNNPACK, Program, metadata, trace
from phi3kit.export.assemble import write_tokenizer
from phi3kit.export.device import for_device
from phi3kit.families import Tokenizer
from phi3kit.model.load import build_net
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.testing import tiny
from phi3kit.text import stop_ids
from phi3kit.verbs.verify import prove

NETS = [str(file.relative_to(RECIPES)) for file in recipe_names()]
FAST = [("phi4-mini/net.yaml", CONTEXT, "int8")]  # partial rotation, tied, grouped, the long list
SLOW = [
    ("phi3-mini/net.yaml", CONTEXT, "int8"),  # a window that binds
    ("phi3-mini/net.yaml", 24, "float"),  # one that does not
    ("phi3-medium/net.yaml", CONTEXT, "float"),
    ("phi35-mini/net.yaml", ORIGINAL, "float"),  # the short list
    ("phi35-mini/net.yaml", CONTEXT, "int8"),
    ("phi3-small/net.yaml", CONTEXT, "int8"),
    ("phi3-small/net.yaml", CONTEXT, "float"),
    ("phi35-moe/net.yaml", CONTEXT, "int8"),
    ("phi-tiny-moe/net-4k.yaml", CONTEXT, "float"),
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny.tokenizer()


def test_there_is_a_net_of_every_model():
    assert {name.partition("/")[0] for name in NETS} == {
        p.name for p in RECIPES.iterdir() if (p / "net.yaml").is_file()
    } - {"pocket"}


@pytest.mark.parametrize("cache", ["float", "int8"])
@pytest.mark.parametrize("name", NETS)
def test_the_program_equals_the_net(name: str, cache: Any) -> None:
    need_plugin(RECIPES / Path(name).parent)
    torch.manual_seed(0)
    net = build_net(section(name, 320) | {"init_std": 0.2, "init_scale": None}).eval().requires_grad_(False)
    for parameter_name, parameter in net.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.randint(320, (CONTEXT,), generator=torch.Generator().manual_seed(0))
    wanted_TV = copy.deepcopy(net)(ids[None])[0]
    used = [i for i in range(320) if i not in net.unused_ids]
    program, start, got = Program(net, CONTEXT, cache), 0, []
    for count in (9, 1, 30, *[1] * 10, CONTEXT - 50):
        got.append(program.every_logit(ids[start : start + count].tolist(), start))
        start += count
    error_T = (torch.cat(got) - wanted_TV)[:, used].norm(dim=1) / wanted_TV[:, used].norm(dim=1)
    if cache == "float":
        assert error_T.max() < 1e-3
    else:  # rounding may send a token of a mixture to another expert
        assert error_T.median() < 0.1


@pytest.mark.parametrize(
    ("name", "context", "cache"), [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_the_lowered_program_is_proven(
    name: str, context: int, cache: Any, tokenizer: Tokenizer, memorised: dict[str, str], tmp_path: Path
) -> None:
    need_plugin(RECIPES / Path(name).parent)
    net = taught(section(name, tokenizer.vocab_size), memorised, tokenizer)
    for_device(net)
    Int8DynamicInt4Weight().quantize(net)
    program = Program(net, context, cache)
    constants = metadata(program, eos_ids=stop_ids(tokenizer), bos_id=None)
    model, device_file = tmp_path / "model.pte", tmp_path / "tokenizer.json"
    model.write_bytes(XNNPACK().lower(trace(program), constants))
    write_tokenizer(tmp_path, tokenizer)
    promise = {"constants": constants, "delegates": sorted(XNNPACK().delegates)}
    proof = prove(model, device_file, promise, tokenizer, program, list(memorised))
    print(f"{name}, context {context}, {cache} cache", *proof.lines(), sep="\n")  # pytest -rP shows it
    assert not proof.faults
    assert 0.5 < proof["logits"]["standard_deviation_of_logits"] < 5
    assert proof["logits"]["positions"] > (2 if context > ORIGINAL else 1) * context
    assert proof["template"]["conversations"] > 5
    assert proof["runner"]["prompts"] >= (20 if context > ORIGINAL else 1)
