"""Prepares a folder in which `phi3kit verify BUNDLE --arm FOLDER` runs a program on an emulated ARM processor.

    python mobile/arm.py FOLDER        # once, with phi3kit's Python; needs the network and Debian 12 or its like

Nothing outside FOLDER is touched. What it does, and what the check proves and does not, is in `mobile/arm.md`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

PYTHON = "3.11"  # Debian 12's, and that of the packages below
TOOLS = ("apt-get", "dpkg-deb", "readelf", "qemu-aarch64-static", "aarch64-linux-gnu-as", "aarch64-linux-gnu-ld")
DEBIAN = (
    f"python{PYTHON} python{PYTHON}-minimal libpython{PYTHON} libpython{PYTHON}-minimal libpython{PYTHON}-stdlib libc6 "
    "libstdc++6 libgcc-s1 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 libcrypt1 "
    "libgomp1 libatomic1 libreadline8 libncursesw6 libtinfo6 libdb5.3"
).split()
OURS = ("torch", "executorch", "pytorch-tokenizers", "numpy")  # in the versions that are installed here
OTHERS = ("typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec")
CUDA = "nvidia-cuda-runtime"  # torch's ARM build opens it at once; the rest of CUDA has stand-ins
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux2014_aarch64", "manylinux_2_27_aarch64")
CPU = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""  # Neoverse N1, as Linux describes it


def main(folder: Path) -> None:
    """Every step; each is skipped where its folder is there."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SystemExit(
            f"{', '.join(missing)}: not found; apt-get install binutils qemu-user-static binutils-aarch64-linux-gnu"
        )
    folder = folder.resolve()
    for name, make in (("root", system), ("site", packages), ("stubs", stubs)):
        if not (folder / name).exists():
            print(f"{name} …", flush=True)
            partial = folder / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            make(partial, folder)
            partial.rename(folder / name)
    print(f"ready: phi3kit verify BUNDLE --arm {folder}")


def system(root: Path, folder: Path) -> None:
    """Debian's Python for ARM, unpacked and not installed; and the files by which libraries learn their processor."""
    apt = folder / "apt"
    (apt / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    config = apt / "apt.conf"
    config.write_text(
        f'Dir::State "{apt}"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}";\n'
        'APT::Architecture "arm64"; APT::Architectures { "arm64"; };\n'
    )
    for command in (["update", "-q"], ["download", "-q", *DEBIAN]):
        subprocess.run(["apt-get", *command], cwd=apt, env={**os.environ, "APT_CONFIG": str(config)}, check=True)
    for package in sorted(apt.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    shutil.rmtree(apt)
    cpu = root / "sys/devices/system/cpu"
    files = {root / "proc/cpuinfo": CPU, cpu / "cpu0/regs/identification/midr_el1": "0x00000000413fd0c1\n"}
    for path, content in (files | {cpu / name: "0\n" for name in ("possible", "present", "online")}).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def packages(site: Path, folder: Path) -> None:
    """The Python packages' ARM builds, unpacked. torch's is 430 MB: it is made for CUDA."""
    wheels = folder / "wheels"
    wanted = [f"{name}=={version(name).split('+')[0]}" for name in OURS]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    pip += ["--python-version", PYTHON, *(f"--platform={platform}" for platform in PLATFORMS)]
    subprocess.run([*pip, *wanted, *OTHERS, CUDA], check=True)
    for wheel in sorted(wheels.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(site)
    shutil.rmtree(wheels)


def stubs(out: Path, folder: Path) -> None:
    """Stand-ins for NVIDIA's libraries that torch names but never calls here: every function returns 0.

    Of the driver (libcuda) every function returns 100, "no device". All names must be there, those
    with versions under their versions.
    """
    torch = sorted((folder / "site/torch/lib").glob("*.so*"))
    there = [*torch, *folder.glob("site/nvidia/**/*.so*"), *folder.glob("root/usr/lib/aarch64-linux-gnu/*.so*")]
    there += folder.glob("root/lib/aarch64-linux-gnu/*.so*")
    here = {path.name for path in there}
    defined = {name for path in there if not path.is_symlink() for name in _symbols(path, defined=True)}
    wanted: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for library in torch:
        missing = [name for name in re.findall(r"NEEDED.*\[(.*?)\]", _readelf("-d", library)) if name not in here]
        file_of = _versions(library) if missing else {}
        for symbol in _symbols(library, defined=False) if missing else ():
            name, _, version_of = symbol.replace("@@", "@").partition("@")
            if file_of.get(version_of) in missing:
                wanted[file_of[version_of]][version_of].add(name)
            elif not version_of and name not in defined and not name.startswith(("Py", "_Py", "_Z")):
                for each in missing:
                    wanted[each][""].add(name)
        for each in missing:
            wanted[each][""] |= set()
    for name, versions in wanted.items():
        _link(out / name, versions, 100 if name.startswith("libcuda.") else 0)


def _link(library: Path, versions: dict[str, set[str]], code: int) -> None:
    names = sorted(set().union(*versions.values()))
    source, script, made = (library.with_name(f"{library.name}.{end}") for end in ("s", "map", "o"))
    source.write_text("".join(f".globl {n}\n.type {n},%function\n{n}: mov w0,#{code}\nret\n" for n in names))
    script.write_text("".join(f"{v} {{ global: {'; '.join(sorted(n))}; }};\n" for v, n in versions.items() if v))
    subprocess.run(["aarch64-linux-gnu-as", "-o", made, source], check=True)
    link = ["aarch64-linux-gnu-ld", "-shared", "-soname", library.name, "-o", library, made]
    subprocess.run([*link, *(["--version-script", script] if script.read_text() else [])], check=True)
    for path in (source, script, made):
        path.unlink()


def _readelf(option: str, library: Path) -> str:
    return subprocess.run(["readelf", "-W", option, library], capture_output=True, text=True, check=True).stdout


def _symbols(library: Path, *, defined: bool) -> list[str]:
    """Dynamic symbols; what a library wants comes with "@version", what it defines without."""
    table = _readelf("--dyn-syms", library)
    if defined:
        return re.findall(r" (?:GLOBAL|WEAK|UNIQUE) +DEFAULT +(?!UND)\S+ ([^@\s]+)", table)
    return re.findall(r" GLOBAL +DEFAULT +UND (\S+)", table)


def _versions(library: Path) -> dict[str, str]:
    """Which library each version of a wanted symbol belongs to."""
    found, file = {}, ""
    for line in _readelf("-V", library).split("Version needs")[-1].splitlines():
        file = next(iter(re.findall(r"File: (\S+)", line)), file)
        found |= dict.fromkeys(re.findall(r"Name: (\S+)", line), file)
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
