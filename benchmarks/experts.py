"""Our mixture of experts against transformers' PhiMoE: the same weights, turn by turn, forward and backward.

  python benchmarks/experts.py                                       # one block and a whole small net, CPU
  python benchmarks/experts.py --tokens 512 --dtypes float32 --rounds 21
  python benchmarks/experts.py --device cuda --tokens 8192 --hidden 4096 --inner 6400

Each round times ours, then theirs, on the same input. Shown are medians, half of the rounds in brackets (quartiles),
the median of the rounds' ratios (above 1: ours is faster), and what is kept for the backward pass beside weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from phi3kit_moe.mixture import MixtureOfExperts
from phi3kit_moe.sparse_mixer import SparseMixer
from torch import Tensor, nn

from phi3kit import torchvision_ops
from phi3kit.model import Decoder, GroupedQueryAttention, LayerNorm, RoPE
from phi3kit.records import Dims

torchvision_ops.declare()

from transformers import PhimoeConfig, PhimoeForCausalLM  # noqa: E402 (needs the line above)
from transformers.models.phimoe.modeling_phimoe import PhimoeSparseMoeBlock  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads")
    print(f"{options.clock} clock, {options.rounds} rounds")
    print(f"theirs: transformers' PhiMoE with its experts as {options.theirs!r}\n")
    print("| what | tokens | type | pass | ours ms | theirs ms | ratio | ours kept MB | theirs kept MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for dtype in options.dtypes:
        for tokens in options.tokens:
            for what, pair in (("block", blocks), ("net", nets)):
                compare(what, tokens, dtype, *pair(options, tokens, getattr(torch, dtype)), options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 2048], help="per pass")
    parser.add_argument("--hidden", type=int, default=1024, help="width of the block; the net has half of it")
    parser.add_argument("--inner", type=int, default=1600, help="inner width of an expert; the net has half of it")
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: time on the processor, on a busy machine")
    parser.add_argument("--theirs", default="grouped_mm", help="transformers' way: grouped_mm (its default), eager …")
    return parser.parse_args()


def blocks(options: argparse.Namespace, tokens: int, dtype: torch.dtype) -> tuple[nn.Module, nn.Module, Tensor]:
    """Ours, theirs and their input: one mixture of experts, whose parameters they share."""
    config = their_config(options, 1)
    with torch.device(options.device):
        dims = Dims(8, options.hidden, 1, 8, intermediate_size=options.inner)
        ours = MixtureOfExperts(dims, 0, SparseMixer, options.experts).to(dtype)
        x_BTD = torch.randn(1, tokens, options.hidden, dtype=dtype, requires_grad=True)
    with torch.device("meta"):
        theirs = PhimoeSparseMoeBlock(config)
    theirs.router.weight = ours.router.gate.weight
    theirs.experts.gate_up_proj, theirs.experts.down_proj = ours.gate_up_proj, ours.down_proj
    return ours, theirs, x_BTD


def nets(options: argparse.Namespace, tokens: int, dtype: torch.dtype) -> tuple[nn.Module, nn.Module, Tensor]:
    """Ours, theirs and their input: four layers, half as wide, the same numbers in both."""
    hidden, inner = options.hidden // 2, options.inner // 2
    dims = Dims(4096, hidden, 4, 8, 2, intermediate_size=inner, context=tokens)

    def experts(dims: Dims, layer: int) -> MixtureOfExperts:
        return MixtureOfExperts(dims, layer, SparseMixer, options.experts)

    def attention(dims: Dims, layer: int) -> GroupedQueryAttention:
        return GroupedQueryAttention(dims, layer, bias=True)

    with torch.device(options.device):
        ours = Decoder(dims, [attention], [experts], RoPE, LayerNorm, head_bias=True).to(dtype)
        tokens_BT = torch.randint(4096, (2, tokens // 2))
    config = their_config(options, 4, hidden_size=hidden, intermediate_size=inner)
    theirs = PhimoeForCausalLM(config).to(options.device, dtype)
    theirs.load_state_dict(dict(their_names(ours)))
    return ours, theirs, tokens_BT


def their_config(options: argparse.Namespace, layers: int, **sizes: int) -> PhimoeConfig:
    config = PhimoeConfig(
        **{"hidden_size": options.hidden, "intermediate_size": options.inner, "vocab_size": 4096, **sizes},
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        num_local_experts=options.experts,
        attention_bias=True,
        lm_head_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    config._experts_implementation = options.theirs
    return config


def their_names(net: Decoder) -> Any:
    """Our tensors under the names transformers has in memory."""
    widths = [net.dims.n_heads * net.dims.head_width] + 2 * [net.dims.kv_heads * net.dims.head_width]
    for name, tensor in net.state_dict().items():
        name = name if name.startswith("lm_head.") else f"model.{name}"
        if ".qkv_proj." in name:
            for letter, rows in zip("qkv", tensor.split(widths), strict=True):
                yield name.replace("qkv_proj", f"{letter}_proj"), rows
        elif name.endswith(("mlp.gate_up_proj", "mlp.down_proj")):
            yield name.replace(".mlp.", ".mlp.experts."), tensor
        else:
            yield name.replace(".router.gate.", ".router."), tensor


def compare(
    what: str, tokens: int, dtype: str, ours: nn.Module, theirs: nn.Module, x: Tensor, options: argparse.Namespace
) -> None:
    """Both passes, as two rows of the table; refuses to time two nets that do not say the same."""
    same(ours, theirs, x)
    for backward in (False, True):
        works = [work(module.train(backward), x, backward) for module in (ours, theirs)]
        kept = [megabytes_kept(module, x) if backward else 0.0 for module in (ours, theirs)]
        times = [[timed(each, options) for each in works] for _ in range(options.rounds + 1)][1:]
        mine, others = zip(*times, strict=True)
        ratio = statistics.median(b / a for a, b in times)
        memory = f"{kept[0]:.0f} | {kept[1]:.0f}" if backward else "– | –"
        name = "forward + backward" if backward else "forward"
        print(f"| {what} | {tokens} | {dtype} | {name} | {spread(mine)} | {spread(others)} | {ratio:.2f} | {memory} |")


@torch.no_grad()
def same(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    a, b = logits(ours.eval()(x)), logits(theirs.eval()(x))
    difference = float((a - b).float().norm() / b.float().norm())
    allowed = 1e-4 if a.dtype == torch.float32 else 0.05
    assert difference < allowed, f"they differ by {difference:.2g}: nothing to compare"


def logits(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else out.logits


def work(module: nn.Module, x: Tensor, backward: bool) -> Callable[[], None]:
    """One pass, gradients made anew each time, as after an optimizer's zero_grad."""

    def forward_only() -> None:
        with torch.no_grad():
            module(x)

    def both() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        torch.manual_seed(0)
        out = logits(module(x))
        out.backward(torch.ones_like(out))

    return both if backward else forward_only


def timed(run: Callable[[], None], options: argparse.Namespace) -> float:
    """Milliseconds of one call."""
    clock, synchronise = CLOCKS[options.clock], torch.cuda.synchronize if options.device == "cuda" else lambda: None
    synchronise()
    begin = clock()
    run()
    synchronise()
    return 1e3 * (clock() - begin)


def spread(times: tuple[float, ...]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.0f} ({low:.0f}–{high:.0f})"


def megabytes_kept(module: nn.Module, x: Tensor) -> float:
    """What autograd keeps from forward to backward, each storage once, beside parameters and input."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), x)}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = logits(module.train()(x))
    del out
    return sum(sizes.values()) / 1e6


if __name__ == "__main__":
    main()
