"""The whole model against transformers' CLIP, the written-out layout and transformers' Phi3: prompt to logits."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import vision_reference as reference
from drawn_pictures import write_pictures
from phi3kit_vision.encoder import CLIPVision
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.image_files import read_image
from phi3kit_vision.prompt import render_pictured
from PIL import Image
from test_vision_encoder import clip_of, slow_rows
from transformers import Phi3Config, Phi3ForCausalLM

from phi3kit import Decoder, Dims, Message, Pictures, UserError
from phi3kit.model import GatedMLP, GroupedQueryAttention, GrowingCache, LongRoPE
from phi3kit.model.weights import hugging_face_state
from phi3kit.text import load_tokenizer

FACTORS = {"short_factor": [1.0, 1.1, 1.5, 2.0], "long_factor": [1.0, 2.0, 4.0, 8.0]}
ORIGINAL = 48


def decoder(build: partial[CLIPVision], vocab_size: int) -> Decoder:
    """A small Phi-3-vision with random weights, separators and norms included."""
    dims = Dims(vocab_size, hidden_size=32, n_layers=2, n_heads=4, intermediate_size=48, context=512)
    position = partial(LongRoPE, original_context=ORIGINAL, **FACTORS)
    torch.manual_seed(0)
    net = Decoder(dims, [GroupedQueryAttention], [GatedMLP], position, vision=build, init_std=0.2).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def phi3_of(net: Decoder) -> Phi3ForCausalLM:
    """transformers' Phi3 with the weights of the language model."""
    dims = net.dims
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": ORIGINAL, **FACTORS}
    config = Phi3Config(
        vocab_size=dims.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=dims.context, original_max_position_embeddings=ORIGINAL, rope_parameters=rope,
        pad_token_id=0, tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    phi3 = Phi3ForCausalLM(config).eval()
    state = {name: tensor for name, tensor in hugging_face_state(net).items() if "vision_embed_tokens" not in name}
    phi3.load_state_dict(state)
    return phi3


@pytest.mark.parametrize(("crops", "texts"), [
    (1, ["<|image_1|>\nWhich colour?"]),
    (4, ["<|image_2|> and <|image_1|>?"]),
], ids=["short", "beyond the LongRoPE switch"])  # fmt: skip
def test_logits_equal_the_slow_model(build, small, tmp_path, crops, texts):
    folder = write_pictures(tmp_path, pictures=4)
    tokenizer = load_tokenizer(folder / "tokenizer")
    net = decoder(build, tokenizer.vocab_size)
    images = [read_image(folder / "images" / f"train-{i}.png").resize((60 - 25 * i, 40)) for i in range(2)]
    images = images[: texts[0].count("image_")]
    hd = HDTransform(crops, 28, 7)
    prompt = render_pictured([Message("user", texts[0])], [hd.count(i.size) for i in images], tokenizer)
    assert (len(prompt.ids) > ORIGINAL) == (crops == 4)
    with torch.no_grad():
        got = net(torch.tensor([prompt.ids]), pictures=shown(images, prompt.order, hd))[0]
        assert isinstance(net.vision_embed_tokens, CLIPVision)
        wanted = slow_logits(net, clip_of(net.vision_embed_tokens, small), prompt.ids, images, prompt.order, hd)
    assert relative(got, wanted) <= 1e-4


def shown(images: list[Image.Image], order: list[int], hd: HDTransform) -> Pictures:
    seen = [hd(images[number]) for number in order]
    return Pictures(torch.cat([views for views, _ in seen]), [grid for _, grid in seen])


def slow_logits(net, clip, ids, images, order, hd):
    """Steps 1-14 by the reference, then transformers' Phi3 on the embeddings."""
    views = [[torch.from_numpy(v.copy()).float() for v in reference.views(images[n], hd.crops, hd.view)] for n in order]
    grids = [hd.grid(images[number].size) for number in order]
    pictures = Pictures(torch.stack([view for image in views for view in image]), grids)
    rows = iter(slow_rows(net.vision_embed_tokens, clip, pictures).float())
    embeddings = [next(rows) if id < 0 else net.embed_tokens.weight[id] for id in ids]
    assert next(rows, None) is None
    return phi3_of(net)(inputs_embeds=torch.stack(embeddings)[None]).logits[0]


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def test_cached_steps_equal_the_full_pass(build, tmp_path):
    """The images are read with the prompt; what follows needs the cache alone."""
    folder = write_pictures(tmp_path, pictures=4)
    tokenizer = load_tokenizer(folder / "tokenizer")
    net, hd = decoder(build, tokenizer.vocab_size), HDTransform(1, 28, 7)
    images = [read_image(folder / "images" / "train-0.png")]
    messages = [Message("user", "<|image_1|>?"), Message("assistant", "red")]
    prompt = render_pictured(messages, [hd.count(i.size) for i in images], tokenizer)
    ids, pictures = torch.tensor([prompt.ids]), shown(images, prompt.order, hd)
    first = max(n for n, id in enumerate(prompt.ids) if id < 0) + 1
    with torch.no_grad():
        cache = GrowingCache(net.dims.n_layers)
        steps = [net(ids[:, :first], cache=cache, pictures=pictures)]
        steps += [net(ids[:, i : i + 1], cache=cache) for i in range(first, ids.shape[1])]
        torch.testing.assert_close(torch.cat(steps, dim=1), net(ids, pictures=pictures), atol=1e-4, rtol=1e-4)


def test_images_and_places_must_agree(build):
    net = decoder(build, 32)
    pictures = Pictures(torch.zeros(2, 3, 28, 28), [(1, 1)])
    with pytest.raises(UserError, match="the images give 13 rows, the text leaves room for 2"):
        net(torch.tensor([[5, -1, -1, 7]]), pictures=pictures)


def test_text_alone_gives_vision_a_gradient_of_zero(build):
    """So that devices with and without images in their batches reduce the same gradients."""
    net, tokens_BT = decoder(build, 32), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        wanted = net(tokens_BT)
    logits = net.train()(tokens_BT)
    assert torch.equal(logits, wanted)
    logits.square().sum().backward()
    assert net.vision_embed_tokens is not None
    gradients = {p.requires_grad: p.grad for p in net.vision_embed_tokens.parameters()}
    assert gradients.keys() == {True, False}
    for parameter in net.vision_embed_tokens.parameters():
        zeros = torch.zeros_like(parameter)
        assert torch.equal(parameter.grad, zeros) if parameter.requires_grad else parameter.grad is None
