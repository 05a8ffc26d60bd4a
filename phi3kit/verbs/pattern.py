"""``phi3kit pattern``: draw what each attention head of a recipe's net sees (the report's figure 1, from the code)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.verbs.pattern_picture import Panel, picture

if TYPE_CHECKING:
    from torch import Tensor

    from phi3kit.model import Decoder

CELLS = 64  # in a row of the picture, unless --block says otherwise
MOST_BYTES = 8 << 30


def main(arguments: list[str]) -> int:
    """Write the picture and say where it is."""
    chosen = _parser().parse_args(arguments)
    layers = [layer for path in chosen.recipe for layer in recipes.read_layers(path)]
    section = recipes.merge(layers).get("net")
    if not section:
        raise UserError(f"{chosen.recipe[-1]} describes no net; give a recipe of `phi3kit fit`, or its net.yaml")
    net = _build(section)
    tokens = chosen.tokens or min(net.dims.context, 4096)
    block = chosen.block or max(1, tokens // CELLS)
    _check(net, tokens, block)
    panels = list(panels_of(net, len(section["attention"]), tokens, block))
    write(picture(panels, tokens, block), chosen.out)
    kinds = sorted({panel.layers for panel in panels})
    print(f"wrote {chosen.out}: {len(panels)} patterns, {tokens:,} tokens in blocks of {block}; {'; '.join(kinds)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="phi3kit pattern",
        allow_abbrev=False,
        description="Draw what each attention head of a net sees, as an SVG.",
    )
    parser.add_argument("--recipe", action="append", required=True, metavar="FILE", help="with a net; repeat to layer")
    parser.add_argument("--tokens", type=int, metavar="N", help="length of the sequence (default: at most 4096)")
    parser.add_argument("--block", type=int, metavar="N", help=f"tokens in one cell (default: {CELLS} cells in a row)")
    parser.add_argument("--out", type=Path, default=Path("pattern.svg"), metavar="FILE", help="default: pattern.svg")
    return parser


def _build(section: dict[str, Any]) -> Decoder:
    from phi3kit.model.load import build_net

    return build_net(section, "meta")


def _check(net: Decoder, tokens: int, block: int) -> None:
    if not 0 < tokens <= net.dims.context:
        raise UserError(f"--tokens {tokens} does not fit; the net's context is {net.dims.context}")
    if not 0 < block <= tokens:
        raise UserError(
            f"--block {block} does not fit into {tokens} tokens; {max(1, tokens // CELLS)} gives {CELLS} cells"
        )
    needed = net.dims.n_heads * tokens**2
    if needed > MOST_BYTES:
        fewer = int((MOST_BYTES / net.dims.n_heads) ** 0.5)
        raise UserError(f"--tokens {tokens} needs {needed >> 30} GB for {net.dims.n_heads} heads; give at most {fewer}")


def panels_of(net: Decoder, kinds: int, tokens: int, block: int) -> Iterator[Panel]:
    """One panel per kind of layer and different pattern of heads.

    Args:
        net: its layers take their attention by turns of `kinds`.
        kinds: how many.
        tokens: length of the sequence.
        block: tokens in a cell.
    """
    from phi3kit.model.decoder import Block

    for kind in range(min(kinds, net.dims.n_layers)):
        layer = net.layers[kind]
        assert isinstance(layer, Block)
        seen_HNN = cells(layer.self_attn.pattern(tokens), block)
        local = local_cells(seen_HNN)
        name = f"{type(layer.self_attn).__name__}, {numbered('layer', range(kind, net.dims.n_layers, kinds))}"
        alike: dict[bytes, list[int]] = {}
        for head, seen_NN in enumerate(seen_HNN):
            alike.setdefault(seen_NN.numpy().tobytes(), []).append(head)
        for heads in alike.values():
            title = numbered("head", heads) if len(seen_HNN) > 1 else "every head"
            yield Panel(name, title, seen_HNN[heads[0]].tolist(), local)


def cells(seen_HTT: Tensor, block: int) -> Tensor:
    """Whether any query of a block sees any key of another, [H, N, N]."""
    import torch.nn.functional as F

    missing = -seen_HTT.shape[-1] % block
    seen_HTT = F.pad(seen_HTT, (0, missing, 0, missing)) if missing else seen_HTT
    return seen_HTT.unflatten(2, (-1, block)).any(3).unflatten(1, (-1, block)).any(2)


def local_cells(seen_HNN: Tensor) -> int:
    """How many cells every query of every head sees, counted back from its own: the local window."""
    distances = range(seen_HNN.shape[-1])
    return next((d for d in distances if not seen_HNN.diagonal(-d, 1, 2).all()), len(distances))


def numbered(what: str, numbers: range | list[int]) -> str:
    """``heads 0, 8, 16, …``"""
    first = ", ".join(map(str, numbers[:4]))
    return f"{what}{'s' if len(numbers) > 1 else ''} {first}{', …' if len(numbers) > 4 else ''}"


def write(text: str, path: Path) -> None:
    """The file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; name another file with --out") from error
