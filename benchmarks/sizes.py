"""How large the program of every model is: writes `mobile/sizes.md`.

    python benchmarks/sizes.py            # computed from the nets' shapes, in seconds
    python benchmarks/sizes.py --check    # 1 where the page is not what would be written

The measured column holds what `phi3kit export` wrote here (see each entry of MEASURED), for models small enough.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from phi3kit import plugins
from phi3kit import recipe as recipes
from phi3kit.errors import UserError
from phi3kit.export.device import for_device
from phi3kit.export.program import context_of
from phi3kit.export.sizes import cache_bytes, program_bytes
from phi3kit.families import Quantizer
from phi3kit.model import Decoder
from phi3kit.model.load import build_net
from phi3kit.quantizers import Int8DynamicInt4Weight, Int8DynamicInt8Weight

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "mobile" / "sizes.md"
# What a net's shapes say does not depend on LongRoPE's list, so nets whose lists were never printed stand at 4K.
NETS = {
    "pocket-phi": "pocket/net.yaml",
    "phi-3-mini, 4K": "phi3-mini/net.yaml",
    "phi-3-mini, 128K": "phi3-mini/net-128k.yaml",
    "phi-3.5-mini": "phi35-mini/net.yaml",
    "phi-4-mini": "phi4-mini/net.yaml",
    "phi-3-small, 8K": "phi3-small/net.yaml",
    "phi-3-medium, 4K": "phi3-medium/net.yaml",
    "phi-3-vision": "phi3-vision/net.yaml",
    "Phi-tiny-MoE": "phi-tiny-moe/net-4k.yaml",
    "Phi-mini-MoE": "phi-mini-moe/net-4k.yaml",
    "Phi-3.5-MoE": "phi35-moe/net-4k.yaml",
}
QUANTIZERS: dict[str, Quantizer] = {
    "4 bits, all of it": Int8DynamicInt4Weight(group_size=128, head_bits=4, embedding_bits=4),
    "4 bits, head and embedding 8": Int8DynamicInt4Weight(),
    "8 bits": Int8DynamicInt8Weight(),
}
# Bytes of programs that were written, by the quantizer's name above. phi-3-mini: recipes/phi3-mini/random-3.8b.yaml.
MEASURED = {
    ("phi-3-mini, 4K", "4 bits, all of it"): 1_984_747_008,
    ("phi-4-mini", "4 bits, all of it"): 2_366_776_192,
    ("phi-3-vision", "4 bits, all of it"): 2_155_104_000,
    ("Phi-tiny-MoE", "4 bits, head and embedding 8"): 2_257_181_696,
}


class Size(NamedTuple):
    """Bytes of one model: of its programs, and of keys and values at `context` tokens."""

    parameters: int
    context: int
    programs: dict[str, int | None]
    cache: int


def size(file: Path) -> Size:
    """Computed from a recipe's net."""
    section = recipes.merge(recipes.read_layers(file))["net"]
    net = build_net(section, "meta")
    parameters, context = net.parameter_count(), context_of(net, None)
    for_device(net)
    programs = {name: _program(net, quantizer, context) for name, quantizer in QUANTIZERS.items()}
    return Size(parameters, context, programs, cache_bytes(net.dims, context, "int8"))


def _program(net: Decoder, quantizer: Quantizer, context: int) -> int | None:
    """None where the quantizer's groups do not divide the net's widths."""
    try:
        quantizer.plan(net)
    except UserError:
        return None
    return program_bytes(net, quantizer, context)


def page() -> str:
    """The content of mobile/sizes.md."""
    return "\n".join([*HEAD, *(_row(name, size(ROOT / "recipes" / file)) for name, file in NETS.items()), *TAIL]) + "\n"


def _row(name: str, found: Size) -> str:
    cells = [
        f"{'–' if count is None else _giga(count)}{_measured(name, kind)}" for kind, count in found.programs.items()
    ]
    return f"| {name} | {_giga(found.parameters)} | {' | '.join(cells)} | {found.context} | {_giga(found.cache)} |"


def _measured(name: str, kind: str) -> str:
    count = MEASURED.get((name, kind))
    return "" if count is None else f" (measured: {_giga(count)})"


def _giga(count: int) -> str:
    return f"{count / 1e9:.3f}"


HEAD = [
    "# How large the program of every model is",
    "",
    "In GB (10^9 bytes), embeddings and head included, without the tokenizer. Computed from the nets' shapes by",
    "`python benchmarks/sizes.py`, which writes this page; measured where it says so. A phone maps the file; what it",
    "holds beside it is the cache (here in 8 bits) and XNNPACK's packed copy of the weights.",
    "",
    f"| model | parameters, 10^9 | {' | '.join(QUANTIZERS)} | context | cache |",
    f"|---|---|{'---|' * len(QUANTIZERS)}---|---|",
]
TAIL = [
    "",
    "* *4 bits, all of it*: groups of 128, head 4 bits, embedding 4 bits in groups of 32. The report's 1.8 GB for",
    "  phi-3-mini is 4 bits without scales: 3.8e9 / 2 = 1.91e9 bytes, 1.78 GiB.",
    "* *4 bits, head and embedding 8*: the default of `Int8DynamicInt4Weight`, groups of 32.",
    "* *8 bits*: `Int8DynamicInt8Weight`.",
    "* Vision counts what sees in fp32 where the quantizer leaves it so.",
    "* Measured: random weights need no download, `phi3kit export --recipe recipes/phi4-mini/net.yaml",
    "  --recipe recipes/export.yaml --random 0 --name phi4-mini --out bundles/phi4-mini-random`. phi-3.5-mini has",
    "  phi-3-mini's shapes; of the others the time has not been spent (7 billion parameters and more).",
]


def main() -> int:
    """Write the page, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    plugins.load()
    text = page()
    if check:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
