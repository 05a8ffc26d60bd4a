"""Every model's own net, its sizes shrunk for exports of seconds: components, options and ratios are the recipe's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recipe_folders import LISTS, RECIPES, content

from phi3kit.families import Tokenizer
from phi3kit.model import Decoder
from phi3kit.model.load import build_net
from phi3kit.records import Message
from phi3kit.text import render

CONTEXT, ORIGINAL = 96, 32  # tokens
STEPS = 100
PARTS = {
    "window": 24,
    "block_size": 8,
    "local_blocks": 2,
    "n_experts": 4,
}  # of components' options; 24 and 2 x 8 tokens lie within the context, so masks are needed and not needed


def section(file: str, vocab_size: int) -> dict[str, Any]:
    """The ``net:`` of a file in recipes/, shrunk to two layers."""
    net = content(RECIPES / file)["net"]
    dims = net["dims"]
    blocksparse = any(part["class_path"] == "BlocksparseAttention" for part in net["attention"])
    heads, share = 8 if blocksparse else 4, dims["n_heads"] // dims.get("n_kv_heads", dims["n_heads"])
    sizes = {"hidden_size": 64, "n_layers": 2, "intermediate_size": 64, "context": CONTEXT}
    shrunk = {**net, "dims": sizes | {"vocab_size": vocab_size, "n_heads": heads, "n_kv_heads": max(1, heads // share)}}
    shrunk["dims"]["head_dim"] = 8 if blocksparse else 16
    shrunk["attention"] = [_small(part) for part in net["attention"]]
    shrunk["feed_forward"] = [_small(part) for part in net["feed_forward"]]
    shrunk["position"] = _position(net["position"], shrunk["dims"]["head_dim"])
    if net.get("unused_ids"):
        shrunk["unused_ids"] = [vocab_size - 9, vocab_size - 5]
    if net.get("vision"):
        tower = {"hidden": 32, "layers": 2, "heads": 2, "intermediate": 64, "image": 16, "patch": 4, "init_std": 0.2}
        shrunk["vision"] = {"class_path": net["vision"]["class_path"], "init_args": tower}
    return shrunk


def _small(part: dict[str, Any]) -> dict[str, Any]:
    options = part.get("init_args") or {}
    if part["class_path"] == "BlocksparseAttention":
        options = {"block_size": None, "local_blocks": None, **options}
    return {**part, "init_args": {name: PARTS.get(name, value) for name, value in options.items()}}


def _position(position: dict[str, Any], width: int) -> dict[str, Any]:
    if position["class_path"] != "LongRoPE":
        return position
    options = position["init_args"]
    pairs = int(width * options.get("rotary_fraction", 1.0)) // 2
    lists = {name: [first + step / 4 for step in range(pairs)] for name, first in zip(LISTS, (1.0, 1.5), strict=True)}
    return {**position, "init_args": {**options, **lists, "original_context": ORIGINAL}}


def taught(section: dict[str, Any], chats: Mapping[str, str], tokenizer: Tokenizer) -> Decoder:
    """The net after it has learned a few answers by heart, so that what it says does not hang on a hair."""
    prompts = [render([Message("user", q), Message("assistant", a)], tokenizer) for q, a in chats.items()]
    length = max(len(prompt.ids) for prompt in prompts)
    tokens_BT = torch.zeros(len(prompts), length, dtype=torch.int64)
    labels_BT = torch.full((len(prompts), length), -100)
    for row, prompt in enumerate(prompts):
        tokens_BT[row, : len(prompt.ids)] = torch.tensor(prompt.ids)
        labels_BT[row, : len(prompt.ids)] = torch.tensor(
            [id if wanted else -100 for id, wanted in zip(prompt.ids, prompt.supervised, strict=True)]
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_net(section).eval()  # without dropout and sampling
    rate = 4e-3 if net.logit_scale == 1.0 else 1e-2  # muP's divided logits want a higher one
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(STEPS):
        logits_BTV = net(tokens_BT[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05, f"the shrunk net did not learn its answers: {loss.item():.3f}"
    return net.requires_grad_(False)


def recipe_names() -> list[Path]:
    """Every net of a published model."""
    return sorted(file for file in RECIPES.glob("*/net*.yaml") if file.parent.name != "pocket")
