"""What 4 bits cost pocket-phi: our quantizers against llama.cpp's Q4_0, on the same weights and the same text.

  pip install gguf xllamacpp              # writes GGUF files; llama.cpp itself, as a wheel
  phi3kit run recipes/pocket              # makes the run and the data
  python benchmarks/quantizers.py runs/pocket/6-dpo data/pocket/reasoning

KL divergence to the float net (nats per token) and top-1 agreement on held-out rows. Ours runs eagerly, which computes
what the program does (the proof of every export). theirs is llama.cpp's own server on a GGUF written with the `gguf`
package: linear layers and embedding Q4_0, output head Q8_0 (what llama-quantize uses in place of Q6_K where a width is
no multiple of 256), norms F32. The same file in F32, on one row, shows that both compute the same net. Ours has a 4-bit
embedding (groups of 32) and an 8-bit head. No layer is trained again; GPTQ reads text of the training split.

Pocket-phi's widths are 192 and 512. 128 does not divide 192; "g128+" is coarser than groups of 128 everywhere: groups
of 128 where the width is 512, and one scale for all 192 elsewhere.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from gguf_file import write_gguf
from torch import Tensor

from phi3kit.evaluation.plot import svg
from phi3kit.evaluation.results import Measured, Results
from phi3kit.evaluation.table import markdown
from phi3kit.export.calibration import HiddenStates
from phi3kit.measures import kl_divergence, top1_agreement
from phi3kit.model import Decoder
from phi3kit.model.load import load_run
from phi3kit.quantizers.gptq import fit_block
from phi3kit.quantizers.grid import EmbeddingGrid, LinearGrid
from phi3kit.quantizers.layers import is_head, linears
from phi3kit.quantizers.low_bit import round_embedding, round_linear
from phi3kit.verbs.export_order import blocks_of

HEAD, EMBEDDING = LinearGrid(8, None), EmbeddingGrid(4, 32)  # what Q8_0 and Q4_0 stand against
GRIDS: dict[str, Callable[[int], LinearGrid]] = {
    "g32": lambda width: LinearGrid(4, 32),
    "g64": lambda width: LinearGrid(4, 64),
    "8 bits": lambda width: LinearGrid(8, None),
    "g128+": lambda width: LinearGrid(4, 128 if width % 128 == 0 else None),
}
TYPES = gguf.GGMLQuantizationType


@dataclass
class Found:
    """One way to hold the weights: their bytes, and what it cost on each row of text."""

    name: str
    size: int
    kl: list[float]
    top1: list[float]

    def __str__(self) -> str:
        kl, top1 = statistics.mean(self.kl), statistics.mean(self.top1)
        return f"{self.name:<24}{self.size / 1000:>12.1f}{kl:>13.6f}{top1:>8.1%}"


def main() -> None:
    options = arguments()
    net = load_run(options.run).float()
    heldout = list(blocks_of(options.data / "heldout", options.row, options.rows))
    text = list(blocks_of(options.data / "train", options.row, options.calibration // options.row))
    print(f"{len(heldout)} rows of {options.row} held-out tokens; GPTQ reads {len(text)} rows")
    print(f"{'':<24}{'weights, kB':>12}{'KL to float':>13}{'top-1':>8}")
    found = []
    for one in every_way(net, heldout, text):
        print(one, flush=True)
        found.append(one)
    if options.study is not None:
        write_study(found, options.study)


def every_way(net: Decoder, heldout: list[Tensor], text: list[Tensor]) -> Iterator[Found]:
    """Ours, then llama.cpp's."""
    wanted = [logits(net, row_T) for row_T in heldout]
    ways = [(method, name) for method in ("gptq", "hqq", "plain") for name in GRIDS if name != "8 bits"]
    for method, name in [*ways, ("plain", "8 bits")]:
        changed, size = quantized(net, method, GRIDS[name], text)
        yield compared(f"{method} {name}", size, wanted, (logits(changed, row_T) for row_T in heldout))
    with tempfile.TemporaryDirectory() as folder:
        for name, kinds in {"F32": {}, "Q4_0": {"output": TYPES.Q8_0, "": TYPES.Q4_0}}.items():
            file = Path(folder) / f"{name}.gguf"
            size = sum(write_gguf(net, lambda name: net.get_parameter(name).detach(), file, kinds).values())
            rows = heldout if kinds else heldout[:1]
            got = llama_cpp(file, rows, net.dims.vocab_size)
            yield compared(f"llama.cpp {name}", size, wanted[: len(rows)], got)


def compared(name: str, size: int, wanted: list[Tensor], got: Iterable[Tensor]) -> Found:
    pairs = list(zip(wanted, got, strict=True))
    kl = [float(kl_divergence(*pair)) for pair in pairs]
    return Found(name, size, kl, [float(top1_agreement(*pair)) for pair in pairs])


def write_study(found: list[Found], out: Path) -> None:
    """Bits, groups and methods against size: table.md and plot.svg; each row of text counts as a repetition."""
    found = [one for one in found if one.name != "llama.cpp F32"]
    out.mkdir(parents=True, exist_ok=True)

    def measured(name: str, unit: str, of: Callable[[Found], list[float]]) -> Measured:
        return Measured(name, unit, {one.name: dict(enumerate(of(one))) for one in found})

    size = measured("weights", "MB", lambda one: [one.size / 1e6] * len(one.kl))
    kl = measured("KL to float", "nats per token", lambda one: one.kl)
    top1 = measured("top-1 agreement", "share", lambda one: one.top1)
    results = Results({one.name: "" for one in found}, [size, kl, top1])
    (out / "table.md").write_text(markdown(results))
    (out / "plot.svg").write_text(svg(results, against=size))


@torch.no_grad()
def logits(net: Decoder, row_T: Tensor) -> Tensor:
    return net(row_T[None])[0]


@torch.no_grad()
def quantized(
    net: Decoder, method: str, grid_of: Callable[[int], LinearGrid], text: list[Tensor]
) -> tuple[Decoder, int]:
    """A copy with 8-bit dynamic activations and weights on a grid; bytes of its linear layers and embedding."""
    net = copy.deepcopy(net)
    grids = {n: HEAD if is_head(n) else grid_of(m.in_features) for n, m in linears(net)}
    size = EMBEDDING.bytes(*net.embed_tokens.weight.shape)
    size += sum(grids[name].bytes(m.out_features, m.in_features) for name, m in linears(net))
    round_embedding(net.embed_tokens, EMBEDDING)
    if method != "gptq":
        for name, layer in list(linears(net)):
            round_linear(layer, grids[name], "plain" if grids[name].bits == 8 else method)  # type: ignore[arg-type]
        return net, size
    states = HiddenStates(net, text)
    for number, block in enumerate(net.layers):
        fit_block(block, f"layers.{number}", lambda block=block: states.through(block), grids.__getitem__, 0.01)
        states.pass_through(block)
    round_linear(net.lm_head, HEAD, "plain")
    return net, size


def llama_cpp(file: Path, rows: list[Tensor], vocab_size: int) -> Iterator[Tensor]:
    """Log probabilities after each token of each row, [T, V]: a request per token, the one before it being cached."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(file)
    options.n_ctx, options.n_parallel = 512, 1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = torch.get_num_threads()
    server = xllamacpp.Server(options)
    for row_T in rows:
        found = torch.full((len(row_T), vocab_size), float("-inf"))
        for end in range(1, len(row_T) + 1):
            request = {"prompt": row_T[:end].tolist(), "n_predict": 1, "n_probs": vocab_size, "cache_prompt": True}
            answer = server.handle_completions(request)
            top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            found[end - 1, [one["id"] for one in top]] = torch.tensor([one["logprob"] for one in top])
        yield found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run")
    parser.add_argument("data", type=Path, help="a prepared part with train/ and heldout/")
    parser.add_argument("--row", type=int, default=256)
    parser.add_argument("--rows", type=int, default=8, help="of held-out text")
    parser.add_argument("--calibration", type=int, default=16384, help="tokens that GPTQ reads")
    parser.add_argument(
        "--study", type=Path, help="folder for a table and a plot of bits, groups and methods against size"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
