"""The encoder: its family's laws, CLIP as transformers computes it, the layout as written out slowly, what learns."""

from __future__ import annotations

from functools import partial

import numpy
import pytest
import torch
import vision_reference as reference
from phi3kit_vision.encoder import CLIPVision
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from phi3kit import Decoder, Dims, Pictures, UserError
from phi3kit.model import GatedMLP, GroupedQueryAttention, LongRoPE
from phi3kit.testing import contracts, tiny

GRIDS = [(1, 1), (2, 1), (1, 3), (2, 2)]


def seeded(build: partial[CLIPVision], seed: int = 0, **options: object) -> CLIPVision:
    """An encoder whose parameters are all random, separators included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build(tiny.dims(), **options).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


def pictures(grids: list[tuple[int, int]], view: int = 28, seed: int = 0) -> Pictures:
    count = sum(1 + rows * columns for rows, columns in grids)
    return Pictures(torch.randn(count, 3, view, view, generator=torch.Generator().manual_seed(seed)), grids)


def clip_of(encoder: CLIPVision, small: dict[str, int]) -> CLIPVisionModel:
    """transformers' tower with the encoder's weights."""
    config = CLIPVisionConfig(
        hidden_size=small["hidden"], num_hidden_layers=small["layers"], num_attention_heads=small["heads"],
        intermediate_size=small["intermediate"], image_size=small["image"], patch_size=small["patch"],
        hidden_act="quick_gelu", layer_norm_eps=1e-5,
    )  # fmt: skip
    clip = CLIPVisionModel(config).eval()
    clip.load_state_dict(encoder.img_processor["vision_model"].state_dict())
    return clip


@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"views_at_once": 2}, {"feature_layer": -1}], ids=str)
def test_it_keeps_the_laws(build, options):
    contracts.check(CLIPVision, partial(build, **options))


@pytest.mark.parametrize("layer", [-1, -2, -3, 1])
def test_features_equal_transformers(build, small, layer):
    encoder = seeded(build, feature_layer=layer)
    clip = clip_of(encoder, small)
    pixels_VCYX = pictures([(2, 2)]).pixels_VCYX
    with torch.no_grad():
        wanted = clip(pixels_VCYX, output_hidden_states=True).hidden_states[layer][:, 1:]
        torch.testing.assert_close(encoder.features(pixels_VCYX), wanted, atol=1e-4, rtol=0)


def test_features_of_the_real_geometry_equal_transformers():
    """One layer of ViT-L/14-336 before the features, and one after."""
    small = {"hidden": 1024, "layers": 2, "heads": 16, "intermediate": 4096, "image": 336, "patch": 14}
    encoder = seeded(partial(CLIPVision, **small))
    pixels_VCYX = pictures([(1, 1)], 336).pixels_VCYX
    with torch.no_grad():
        wanted = clip_of(encoder, small)(pixels_VCYX, output_hidden_states=True).hidden_states[-2][:, 1:]
        got = encoder.features(pixels_VCYX)
    assert got.shape == (2, 576, 1024)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def test_initial_weights_are_spread_like_transformers(small):
    """Each matrix's spread within 10 %: transformers draws from the same distributions."""
    options = {**small, "hidden": 128, "intermediate": 256, "heads": 4}
    torch.manual_seed(0)
    ours = CLIPVision(tiny.dims(), **options).img_processor["vision_model"].state_dict()
    theirs = clip_of(CLIPVision(tiny.dims(), **options), options)
    for module in reversed(list(theirs.modules())):  # inner ones first, as transformers does
        theirs._init_weights(module)
    for name, parameter in theirs.state_dict().items():
        if parameter.ndim > 1:
            assert ours[name].std().item() == pytest.approx(parameter.std().item(), rel=0.1), name
        elif "norm" in name or name.endswith("bias"):
            assert torch.equal(ours[name], parameter), name


def slow_rows(encoder: CLIPVision, clip: CLIPVisionModel, shown: Pictures) -> Tensor:
    """All rows, image by image, through transformers' tower and the written-out layout."""
    as_array = lambda tensor: tensor.detach().double().numpy()  # noqa: E731
    weights = {name: as_array(tensor) for name, tensor in encoder.img_projection.state_dict().items()}
    rows, first = [], 0
    for grid in shown.grids:
        features = []
        for view in range(1 + grid[0] * grid[1]):
            pixels_1CYX = shown.pixels_VCYX[first + view][None]
            with torch.no_grad():
                features.append(as_array(clip(pixels_1CYX, output_hidden_states=True).hidden_states[-2][0, 1:]))
        first += len(features)
        laid_out = reference.sequence(features, grid, as_array(encoder.sub_GN[0, 0, 0]), as_array(encoder.glb_GN[0, 0]))
        rows.append(reference.projected(laid_out, weights))
    return torch.from_numpy(numpy.concatenate(rows))


def test_rows_equal_the_slow_reference(build, small):
    encoder, shown = seeded(build), pictures(GRIDS)
    with torch.no_grad():
        got = encoder(shown)
    assert len(got) == sum(encoder.count(grid) for grid in GRIDS)
    torch.testing.assert_close(got.double(), slow_rows(encoder, clip_of(encoder, small), shown), atol=1e-4, rtol=0)


def test_an_image_alone_and_among_others(build):
    encoder = seeded(build)
    together = pictures(GRIDS)
    with torch.no_grad():
        rows = encoder(together).split([encoder.count(grid) for grid in GRIDS])
        first = 0
        for grid, among in zip(GRIDS, rows, strict=True):
            views = 1 + grid[0] * grid[1]
            alone = encoder(Pictures(together.pixels_VCYX[first : first + views], [grid]))
            torch.testing.assert_close(alone, among, atol=1e-5, rtol=0)
            first += views


def test_chunks_do_not_matter(build):
    shown = pictures(GRIDS)
    with torch.no_grad():
        whole, pieces = (seeded(build, views_at_once=n)(shown) for n in (64, 1))
    torch.testing.assert_close(whole, pieces, atol=1e-5, rtol=0)


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision(build, autocast):
    """bfloat16 throughout, and as Lightning's bf16-mixed: within a few of its steps of fp32."""
    encoder, shown = seeded(build), pictures(GRIDS)
    with torch.no_grad():
        wanted = encoder(shown)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            got = (encoder if autocast else encoder.bfloat16())(shown)
    assert got.dtype == torch.bfloat16
    assert float((got - wanted).norm() / wanted.norm()) < 0.02


def learning(encoder: CLIPVision) -> set[str]:
    """Parameters that a backward pass gives a gradient that is not zero."""
    encoder.train()(pictures(GRIDS)).square().sum().backward()
    return {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


def test_what_learns(build):
    encoder = seeded(build)
    unused = ("layers.2.", "post_layernorm")
    expected = {name for name, _ in encoder.named_parameters() if not any(part in name for part in unused)}
    assert learning(encoder) >= {name for name in expected if not name.endswith("k_proj.bias")}
    assert learning(encoder) <= expected  # a bias on all keys alike shifts no score: its gradient is rounding noise
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == expected


def test_what_learns_where_clip_is_frozen(build):
    encoder = seeded(build, frozen=True)
    expected = {name for name, _ in encoder.named_parameters() if not name.startswith("img_processor")}
    assert expected == {"glb_GN", "sub_GN", *(f"img_projection.{i}.{w}" for i in (0, 2) for w in ("weight", "bias"))}
    assert learning(encoder) == expected
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == expected


def test_recomputing_gives_the_same_gradients(build):
    gradients = []
    for recompute in (False, True):
        encoder = seeded(build, recompute=recompute)
        assert learning(encoder)
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


@pytest.mark.slow
def test_features_of_the_whole_tower_equal_transformers():
    """All of ViT-L/14-336, random weights: 1.2 GB twice."""
    sizes = {"hidden": 1024, "layers": 24, "heads": 16, "intermediate": 4096, "image": 336, "patch": 14}
    encoder = seeded(partial(CLIPVision, **sizes))
    pixels_VCYX = pictures([(1, 1)], 336).pixels_VCYX
    with torch.no_grad():
        wanted = clip_of(encoder, sizes)(pixels_VCYX, output_hidden_states=True).hidden_states[-2][:, 1:]
        torch.testing.assert_close(encoder.features(pixels_VCYX), wanted, atol=1e-4, rtol=1e-4)


def test_public_parameter_counts():
    """Specification, section 1.13."""
    dims = Dims(vocab_size=32064, hidden_size=3072, n_layers=32, n_heads=32, intermediate_size=8192, context=131072)
    factors = [1.0] * 48
    with torch.device("meta"):
        position = partial(LongRoPE, short_factor=factors, long_factor=factors, original_context=4096)
        net = Decoder(dims, [GroupedQueryAttention], [GatedMLP], position, vision=CLIPVision)
    vision = net.vision_embed_tokens
    assert isinstance(vision, CLIPVision)
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    assert count(vision.img_processor) == 303_507_456
    assert count(vision.img_projection) == 22_026_240
    assert vision.sub_GN.numel() + vision.glb_GN.numel() == 8_192
    assert net.parameter_count() == 4_146_621_440


def test_public_tensor_names():
    """Specification, section 2.8; transformers' names below ``vision_model``."""
    with torch.device("meta"):
        encoder = CLIPVision(Dims(vocab_size=8, hidden_size=3072, n_layers=1, n_heads=32))
        clip = CLIPVisionModel(CLIPVisionConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                                                intermediate_size=4096, image_size=336, patch_size=14))  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    tower = {f"img_processor.vision_model.{name}": tuple(t.shape) for name, t in clip.state_dict().items()}
    assert shapes == {
        **tower,
        "glb_GN": (1, 1, 4096),
        "sub_GN": (1, 1, 1, 4096),
        "img_projection.0.weight": (3072, 4096),
        "img_projection.0.bias": (3072,),
        "img_projection.2.weight": (3072, 3072),
        "img_projection.2.bias": (3072,),
    }


@pytest.mark.parametrize(("options", "message"), [
    ({"heads": 5}, "hidden 32 is not a multiple of heads 5; change one of them"),
    ({"patch": 5}, "image 28 is not cut evenly by 2 x 2 patches of 5; change one of them"),
    ({"feature_layer": -5}, "feature_layer -5 is none of 3 layers; use -4 to 3"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(build, options, message):
    with pytest.raises(UserError, match=message):
        build(tiny.dims(), **options)


def test_views_of_another_size_are_refused(build):
    with pytest.raises(UserError, match=r"views have \[42, 42\] pixels, the net's vision reads \[28, 28\]"):
        build(tiny.dims())(pictures([(1, 1)], 42))
