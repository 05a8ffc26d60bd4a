"""Blocksparse attention on a CPU against torch's dense attention: Phi-3-small's heads, turn by turn.

  python benchmarks/blocksparse.py                                   # 4,096 and 8,192 tokens
  python benchmarks/blocksparse.py --threads 1 --clock cpu           # a busy machine: count our own CPU time
  python benchmarks/blocksparse.py --tokens 16384 --rounds 3

Each round times ours, then dense `scaled_dot_product_attention` (causal, grouped heads), on the same numbers. Shown
are medians, half of the rounds in brackets (quartiles), and the median of the rounds' ratios (above 1: ours is faster)
beside the most that skipping could give: one over the share of the causal blocks that the pattern keeps. Memory is
the most that torch's allocator held at once beyond the inputs: output and gradients, which every way needs, and what
the way needs for itself. The last table is of sparser and denser patterns; their `spare` is the latter alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from itertools import accumulate

import torch
import torch.nn.functional as F
from phi3kit_blocksparse import fused
from phi3kit_blocksparse.cached import after_cache
from phi3kit_blocksparse.pattern import Pattern
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

PATTERN = Pattern(heads=32, kv_heads=8, block=64, local=16, stride=8)  # Phi-3-small
WIDTH = 128
DENSITIES = [(32, 4), (16, 8), (16, 32), (8, 32), (2, 64)]  # local, stride
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PASSES = ("forward", "forward + backward")
Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} clock, {options.rounds} rounds\n")
    print("| tokens | pass | blocksparse ms | dense ms | ratio | at most | blocksparse MB | dense MB |")
    print("|---|---|---|---|---|---|---|---|")
    for tokens in options.tokens:
        for name in PASSES:
            compare(tokens, name, options)
    print("\n| cache | step | blocksparse ms | dense ms | ratio | at most |\n|---|---|---|---|---|---|")
    for tokens in options.tokens:
        compare_steps(tokens, options)
    print("\n| tokens | local | stride | kept | pass | blocksparse ms | dense / blocksparse | spare KB | dense's |")
    print("|---|---|---|---|---|---|---|---|---|")
    for tokens in options.tokens:
        compare_densities(tokens, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: time of this process on all cores")
    return parser.parse_args()


def numbers(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (queries, PATTERN.heads), (keys, PATTERN.kv_heads), (keys, PATTERN.kv_heads)
    q, k, v = (torch.randn(1, *shape, WIDTH, generator=generator) for shape in shapes)
    return q, k, v


def blocksparse(q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, pattern: Pattern = PATTERN) -> Tensor:
    return fused.blocksparse(q_BTHK, k_BTGK, v_BTGK, pattern, 1 / WIDTH)


def blocksparse_step(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor) -> Tensor:
    return after_cache(q_BTHK, k_BSGK, v_BSGK, PATTERN, 1 / WIDTH)


def dense(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGK: Tensor) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BSGK, v_BSGK))
    causal = q_BTHK.shape[1] > 1
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=1 / WIDTH, enable_gqa=True).transpose(1, 2)


def run(kernel: Kernel, inputs: tuple[Tensor, ...], name: str) -> None:
    if name == "forward":
        with torch.no_grad():
            kernel(*inputs)
        return
    q, k, v = (x.detach().requires_grad_() for x in inputs)
    out = kernel(q, k, v)
    out.backward(torch.ones_like(out))


def compare(tokens: int, name: str, options: argparse.Namespace) -> None:
    inputs = numbers(tokens, tokens)
    ours, theirs = timed((blocksparse, dense), lambda kernel: run(kernel, inputs, name), options)
    memory = " | ".join(f"{peak(kernel, inputs, name) / 2**20:,.2f}" for kernel in (blocksparse, dense))
    print(f"| {tokens:,} | {name} | {row(ours, theirs, 1 / density(PATTERN, tokens))} | {memory} |", flush=True)


def density(pattern: Pattern, tokens: int) -> float:
    """The share of the causal blocks that it keeps."""
    kept = pattern.blocks(-(-tokens // pattern.block))
    return kept.sum().item() / pattern.heads / (kept.shape[-1] * (kept.shape[-1] + 1) / 2)


def compare_densities(tokens: int, options: argparse.Namespace) -> None:
    inputs = numbers(tokens, tokens)
    for local, stride in DENSITIES:
        pattern = dataclasses.replace(PATTERN, local=local, stride=stride)
        kernel = functools.partial(blocksparse, pattern=pattern)
        for name in PASSES:
            ours, theirs = timed((kernel, dense), lambda kernel, name=name: run(kernel, inputs, name), options)
            ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
            spare = [(peak(x, inputs, name) - results(tokens, name)) / 2**10 for x in (kernel, dense)]
            what = f"{tokens:,} | {local} | {stride} | {density(pattern, tokens):.0%} | {name}"
            print(f"| {what} | {middle(ours)} | {ratio:.2f} | {spare[0]:,.0f} | {spare[1]:,.0f} |", flush=True)


def results(tokens: int, name: str) -> int:
    """Bytes of the output and its logarithms; with gradients, those of the output, queries, keys and values too."""
    vectors = PATTERN.heads if name == "forward" else 3 * PATTERN.heads + 2 * PATTERN.kv_heads
    return 4 * tokens * (vectors * WIDTH + PATTERN.heads)


def compare_steps(tokens: int, options: argparse.Namespace) -> None:
    inputs = numbers(1, tokens)
    per_group = [set() for _ in range(PATTERN.kv_heads)]
    for head in range(PATTERN.heads):
        per_group[head * PATTERN.kv_heads // PATTERN.heads].update(PATTERN.columns(head, (tokens - 1) // PATTERN.block))
    read = sum(map(len, per_group)) / (PATTERN.kv_heads * -(-tokens // PATTERN.block))
    steps = argparse.Namespace(**{**vars(options), "rounds": 20 * options.rounds})
    ours, theirs = timed((blocksparse_step, dense), lambda kernel: run(kernel, inputs, "forward"), steps)
    print(f"| {tokens:,} | one token | {row(ours, theirs, 1 / read)} |", flush=True)


def timed(
    kernels: tuple[Kernel, Kernel], act: Callable[[Kernel], None], options: argparse.Namespace
) -> list[list[float]]:
    """Milliseconds of each round, for both; one round before, to warm up."""
    clock, times = CLOCKS[options.clock], [[], []]
    for n in range(options.rounds + 1):
        for kernel, found in zip(kernels, times, strict=True):
            begin = clock()
            act(kernel)
            if n:
                found.append(1000 * (clock() - begin))
    return times


def row(ours: list[float], theirs: list[float], most: float) -> str:
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return f"{middle(ours)} | {middle(theirs)} | {ratio:.2f} | {most:.2f}"


def middle(times: list[float]) -> str:
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return f"{median:,.1f} [{low:,.1f}–{high:,.1f}]" if median < 100 else f"{median:,.0f} [{low:,.0f}–{high:,.0f}]"


def peak(kernel: Kernel, inputs: tuple[Tensor, ...], name: str) -> int:
    """The most bytes that torch's allocator held at once beyond the inputs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run(kernel, inputs, name)
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


if __name__ == "__main__":
    main()
