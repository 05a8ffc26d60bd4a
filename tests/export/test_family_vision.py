"""A net that sees: its four methods through the whole proof, and MultimodalRunner against the net in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipe_folders import RECIPES, need_plugin
from shrunk_family import CONTEXT, section, taught

from phi3kit import UserError
from phi3kit.export import XNNPACK, Program, metadata
from phi3kit.export.assemble import write_tokenizer
from phi3kit.export.device import for_device
from phi3kit.export.vision import VisionPrograms
from phi3kit.export.vision_runner import VisionRunner, some_pixels
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Pictures
from phi3kit.testing import tiny
from phi3kit.text import stop_ids
from phi3kit.verbs.verify import prove

GRID = (2, 2)


def views(pixels_3YX: torch.Tensor, view: int) -> torch.Tensor:
    """What the HD transform makes of an image that is enlarged already: normalised, the whole one first."""
    hd = pytest.importorskip("phi3kit_vision.hd")
    mean, deviation = (torch.tensor(numbers)[:, None, None] for numbers in (hd.MEAN, hd.DEVIATION))
    pixels_3YX = (pixels_3YX / 255 - mean) / deviation
    whole = torch.nn.functional.interpolate(pixels_3YX[None], (view, view), mode="bicubic", align_corners=False)
    tiles = pixels_3YX.unflatten(2, (GRID[1], view)).unflatten(1, (GRID[0], view)).permute(1, 3, 0, 2, 4)
    return torch.cat((whole, tiles.flatten(0, 1)))


@pytest.fixture
def net(memorised):
    need_plugin(RECIPES / "phi3-vision")
    tokenizer = tiny.tokenizer()
    return taught(section("phi3-vision/net.yaml", tokenizer.vocab_size), memorised, tokenizer)


def test_an_image_must_fit_into_the_context(net):
    with pytest.raises(UserError, match="an image of 2 x 2 crops takes 27 of 20 tokens of context"):
        VisionPrograms.of(Program(net, 20), GRID)


@torch.no_grad()
def test_the_programs_equal_the_net(net):
    programs = VisionPrograms.of(Program(net, CONTEXT), GRID)
    pixels_3YX, count = some_pixels(programs.image.pixels, 0), programs.image.rows
    ids = [5, *[-1] * count, 6, 7]
    wanted_TV = net(torch.tensor([ids]), pictures=Pictures(views(pixels_3YX, 16), [GRID]))[0]
    first, last = (programs.tokens(torch.tensor([text])) for text in ([5], [6, 7]))
    got_TV = programs.rows.every_logit(torch.cat((first, programs.image(pixels_3YX), last), dim=1))
    torch.testing.assert_close(got_TV, wanted_TV, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_the_lowered_methods_are_proven(net, memorised, tmp_path):
    tokenizer = tiny.tokenizer()
    for_device(net)
    Int8DynamicInt4Weight().quantize(net)
    program = Program(net, CONTEXT)
    vision = VisionPrograms.of(program, GRID)
    constants = metadata(program, eos_ids=stop_ids(tokenizer), bos_id=None)
    model, device_file = tmp_path / "model.pte", tmp_path / "tokenizer.json"
    model.write_bytes(XNNPACK().lower(vision.trace(program), constants))
    write_tokenizer(tmp_path, tokenizer)
    promise = {"constants": constants, "delegates": sorted(XNNPACK().delegates)}
    proof = prove(model, device_file, promise, tokenizer, program, list(memorised), vision)
    print(*proof.lines(), sep="\n")  # pytest -rP shows it
    assert not proof.faults
    assert proof["runner"]["vision"]["images"] == 3
    assert proof["runner"]["vision"]["tokens"] > 3
    assert _says_what_the_net_says(net, vision, model, tmp_path)


@torch.no_grad()
def _says_what_the_net_says(net, vision: VisionPrograms, model: Path, folder: Path) -> bool:
    """Greedy ids of MultimodalRunner against those of the quantized net with pictures, without any program."""
    pixels_3YX = some_pixels(vision.image.pixels, 7)
    answer = VisionRunner(model, net.dims.vocab_size, folder).generate([[5], pixels_3YX, [6, 7]], 8)
    pictures, ids = Pictures(views(pixels_3YX, 16), [GRID]), [5, *[-1] * vision.image.rows, 6, 7]
    for id in answer:
        if id != int(net(torch.tensor([ids]), pictures=pictures)[0, -1].argmax()):
            return False
        ids.append(id)
    return len(answer) > 0
