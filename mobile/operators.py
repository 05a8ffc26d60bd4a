"""The operators of published ExecuTorch runtimes, read from its Python packages -> phi3kit/export/operators.json.

    pip download --no-deps executorch==1.1.0 executorch==1.2.0 …      # one command each
    python mobile/operators.py 1.1=executorch-1.1.0-….whl 1.2=… 1.3=… 1.4=FOLDER > phi3kit/export/operators.json

Nothing is imported: runtimes of other versions do not load beside ours. Each package's three libraries hold the names
they register, as strings that end in a zero byte: `_portable_lib` ExecuTorch's portable and optimized kernels and its
primitive operators, `libquantized_ops_aot_lib` the quantized ones, `libcustom_ops_aot_lib` those for language models.
Apps link the same three sets (Android's AAR: extension/android/CMakeLists.txt; iOS: kernels_optimized,
kernels_quantized and kernels_llm of scripts/build_apple_frameworks.sh). Two names of the quantized library are known to
PyTorch alone, and stay out. 1.1 to 1.4 were read from 1.1.0, 1.2.0, 1.3.1 and 1.4.1.

A newer runtime: download its package, add it at the end, and look at what the difference says.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

LIBRARIES = {  # name in operators.json: file of the package, namespaces of what it registers
    "kernels": ("_portable_lib", ("aten", "dim_order_ops", "et_copy", "executorch_prim")),
    "quantized": ("libquantized_ops_aot_lib", ("quantized_decomposed",)),
    "llm": ("libcustom_ops_aot_lib", ("llama",)),
}
NOT_REGISTERED = re.compile(r"quantized_decomposed::embedding_xbit\.")
CPU = ["kernels", "quantized", "llm"]
TARGETS = {
    "android": {"is": "executorch-android", "libraries": CPU, "delegates": ["XnnpackBackend"]},
    "android-vulkan": {
        "is": "executorch-android-vulkan",
        "libraries": CPU,
        "delegates": ["VulkanBackend", "XnnpackBackend"],
    },
    "ios": {
        "is": "the Swift package's kernels_optimized, kernels_quantized, kernels_llm and backends",
        "libraries": CPU,
        "delegates": ["CoreMLBackend", "MPSBackend", "XnnpackBackend"],
    },
}


def libraries(package: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every shared library of a wheel, or of an installed package's folder."""
    if package.is_dir():
        yield from ((file.name, file.read_bytes()) for file in sorted(package.rglob("*.so")))
        return
    with zipfile.ZipFile(package) as wheel:
        yield from ((Path(name).name, wheel.read(name)) for name in wheel.namelist() if name.endswith(".so"))


def registered(content: bytes, namespaces: Iterable[str]) -> set[str]:
    """Names of operators among a library's strings."""
    pattern = rb"(?:%b)::\w+(?:\.\w+)?(?=\0)" % "|".join(namespaces).encode()
    names = {name.decode() for name in re.findall(rb"(?<!\w)" + pattern, content)}
    return {name for name in names if not NOT_REGISTERED.match(name)}


def operators(package: Path) -> dict[str, set[str]]:
    """Of each library of a package."""
    found = {name: set[str]() for name in LIBRARIES}
    for file, content in libraries(package):
        for name, (stem, namespaces) in LIBRARIES.items():
            if file.startswith(stem):
                found[name] |= registered(content, namespaces)
    if empty := [name for name, names in found.items() if not names]:
        raise SystemExit(
            f"{package}: no operators found in {', '.join(empty)}; give a wheel of executorch, or its folder"
        )
    return found


def main(arguments: list[str]) -> None:
    """Print operators.json: all names of the first version, then what each adds. A name that goes is an error."""
    added: dict[str, dict[str, list[str]]] = {name: {} for name in LIBRARIES}
    before: dict[str, set[str]] = {name: set() for name in LIBRARIES}
    for argument in arguments:
        version, _, package = argument.partition("=")
        for name, names in operators(Path(package)).items():
            if gone := before[name] - names:
                raise SystemExit(f"{version} no longer has {', '.join(sorted(gone))}; the format cannot say that")
            added[name][version] = sorted(names - before[name])
            before[name] = names
    print(json.dumps({"libraries": added, "targets": TARGETS}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
