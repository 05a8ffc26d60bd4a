"""How fast a bundle's program of phi-3-mini's true size answers, against llama.cpp's Q4_0 of the same weights.

  pip install gguf llama-cpp-python       # compiles llama.cpp for this processor: ten minutes or more
  phi3kit export --recipe recipes/phi3-mini/random-3.8b.yaml --out BUNDLE [--context 2048 --cache float]
  python benchmarks/speed.py BUNDLE/phi4_phi3-mini-random.pte q4_0.gguf --rounds 3 [--contexts 128 1024 4096]

Both read and answer in turns, each in a process of its own, A/B/A/B: loading, reading a prompt of 128 and of 1,024
tokens, and single tokens after so many others (the 4,096 leave room for those measured). Both are called from Python,
which gets the logits of the last token. llama.cpp maps its file and keeps keys and values in 16 bits, its default; ours
as the bundle says. The GGUF file is made by llama.cpp's own quantizer where it is not there: linear layers and
embedding Q4_0, output Q6_K.

"of the limit" is tokens per second over what reading the weights of one token alone would allow, at the rate at which
both threads read memory here, measured before and after.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SINGLE = 24  # tokens measured one by one
PROMPTS = (128, 1024)


def main() -> None:
    options = arguments()
    if options.child:
        print(json.dumps(CHILDREN[options.child](options)))
        return
    sizes = gguf_sizes(options.gguf)
    files = {"ours": options.model, "llama.cpp": options.gguf}
    touched = {
        "ours": options.model.stat().st_size - embedding_bytes(),
        "llama.cpp": sum(sizes.values()) - sizes["token_embd.weight"],
    }
    rates = [read_rate(options.threads)]
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in touched}
    for number in range(options.rounds):
        for name in rounds:
            rounds[name].append(child(name, options))
            print(f"round {number + 1}: {name} {json.dumps(rounds[name][-1])}", flush=True)
    rates.append(read_rate(options.threads))
    report(rounds, touched, {name: file.stat().st_size for name, file in files.items()}, max(rates))


def report(
    rounds: dict[str, list[dict[str, float]]], touched: dict[str, int], sizes: dict[str, int], rate: float
) -> None:
    """The table: medians, with the smallest and the largest."""
    print(f"\nreads {rate / 1e9:.1f} GB/s; load {os.getloadavg()[0]:.1f}\n")
    print("| | ours | llama.cpp Q4_0 | ratio |\n|---|---|---|---|")
    for key in rounds["ours"][0]:
        mine, other = ([each[key] for each in rounds[name]] for name in rounds)
        ratio = statistics.median(mine) / statistics.median(other)
        print(f"| {key} | {spread(mine)} | {spread(other)} | {ratio:.2f} |")
    for key in (key for key in rounds["ours"][0] if key.startswith("decode")):
        shares = [statistics.median(each[key] for each in rounds[name]) * touched[name] / rate for name in rounds]
        print(f"| {key}: of the limit | {shares[0]:.0%} | {shares[1]:.0%} | |")
    print(f"| file, GB | {sizes['ours'] / 1e9:.3f} | {sizes['llama.cpp'] / 1e9:.3f} | |")
    print(f"| weights read per token, GB | {touched['ours'] / 1e9:.3f} | {touched['llama.cpp'] / 1e9:.3f} | |")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}–{max(values):.2f}]"


def child(name: str, options: argparse.Namespace) -> dict[str, float]:
    """One side's numbers, from a process of its own."""
    command = [sys.executable, __file__, str(options.model), str(options.gguf), "--child", name]
    command += ["--threads", str(options.threads), "--contexts", *map(str, options.contexts)]
    threads = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=threads)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(options: argparse.Namespace) -> dict[str, float]:
    """A program in ExecuTorch's Python runtime."""
    from phi3kit.executorch_runtime import runtime
    from phi3kit.serve.bundle_engine import BundleEngine

    runtime()  # imported before, as llama.cpp is
    warm(options.model)
    began = time.perf_counter()
    engine = BundleEngine(options.model)
    loaded = time.perf_counter() - began
    return measured(loaded, engine.ingest, engine.reset, options)


def theirs(options: argparse.Namespace) -> dict[str, float]:
    """The same net in llama.cpp."""
    import llama_cpp

    warm(options.gguf)
    began = time.perf_counter()
    net = llama_cpp.Llama(
        str(options.gguf),
        n_ctx=max(*options.contexts, *PROMPTS),
        n_threads=options.threads,
        n_threads_batch=options.threads,
        verbose=False,
    )
    return measured(time.perf_counter() - began, net.eval, net.reset, options)


def measured(
    loaded: float, read: Callable[[list[int]], Any], reset: Callable[[], None], options: argparse.Namespace
) -> dict[str, float]:
    """Loading, prompts, single tokens, memory."""
    found = {"load, s": loaded}
    ids = torch.randint(
        5, 30000, (max(*options.contexts, *PROMPTS),), generator=torch.Generator().manual_seed(0)
    ).tolist()
    read(ids[:8])
    for length in PROMPTS:
        reset()
        found[f"prompt of {length}, tokens/s"] = length / seconds(read, ids[:length])
    for context in sorted(options.contexts):
        reset()
        at = max(context - SINGLE - 1, 1)
        for start in range(0, at, 512):
            read(ids[start : min(start + 512, at)])
        read([ids[at]])
        one_by_one = [[i] for i in ids[at + 1 :][:SINGLE]]
        found[f"decode after {at}, tokens/s"] = len(one_by_one) / seconds(lambda ones: [*map(read, ones)], one_by_one)
    gc.collect()
    return found | {"resident, GB": resident("VmRSS"), "of it anonymous, GB": resident("RssAnon")}


def seconds(work: Callable[..., Any], *given: Any) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


def resident(key: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) / 1e6


def warm(file: Path) -> None:
    """Bring a file into the system's cache: both sides begin with that."""
    with file.open("rb") as stream:
        while stream.read(2**24):
            pass


def read_rate(threads: int) -> float:
    """Bytes per second that all threads read from memory: the best of some sums over 2 GB."""
    torch.set_num_threads(threads)
    numbers = torch.ones(2**29)
    numbers.sum()
    return max(numbers.nbytes / seconds(numbers.sum) for _ in range(8))


def embedding_bytes() -> int:
    """Of the table of which a token reads one row: 4 bits, and an fp32 scale for 32 of them."""
    from phi3kit.model.load import build_net

    dims = build_net(section(), "meta").dims
    return dims.vocab_size * dims.hidden_size * (4 + 32 // 32) // 8


def gguf_sizes(file: Path) -> dict[str, int]:
    """Bytes of each tensor of the GGUF file, which llama.cpp's own quantizer makes where it is not there."""
    import gguf

    if not file.is_file():
        import llama_cpp
        from gguf_file import write_gguf

        from phi3kit.model.source import RandomSource

        source, half = RandomSource(section(), 0), file.with_suffix(".f16")
        write_gguf(source.net, source.tensor, half, {"": gguf.GGMLQuantizationType.F16})
        wanted = llama_cpp.llama_model_quantize_default_params()
        wanted.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
        partial = file.with_suffix(".partial")
        if llama_cpp.llama_model_quantize(str(half).encode(), str(partial).encode(), wanted):
            sys.exit("llama.cpp could not quantize the file")
        half.unlink()
        partial.replace(file)
    return {tensor.name: int(tensor.n_bytes) for tensor in gguf.GGUFReader(file).tensors}


def section() -> dict[str, Any]:
    """The ``net:`` of phi-3-mini."""
    from phi3kit.recipe import merge, read_layers

    return merge(read_layers(RECIPE))["net"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the bundle's .pte")
    parser.add_argument("gguf", type=Path, help="the GGUF file; made where it is not there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 1024, 4096])
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    return parser.parse_args()


RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "phi3-mini" / "random-3.8b.yaml"
CHILDREN = {"ours": ours, "llama.cpp": theirs}

if __name__ == "__main__":
    main()
