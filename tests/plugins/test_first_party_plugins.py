"""Each of our plugins installs alone on top of the core, and works there.

Alone: a virtual environment that sees this one's packages except every plugin of ours, plus the one under test.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from arithmetic import environment

PLUGINS = Path(__file__).parents[2] / "plugins"
PACKAGES = sorted(path.parent for path in PLUGINS.glob("*/pyproject.toml"))


def metadata(package: Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text())["project"]


def is_a_plugin(entry: str) -> bool:
    """Whether a file in site-packages belongs to one of our plugins, installed in whatever way."""
    return any(metadata(package)["name"].replace("-", "_") in entry for package in PACKAGES)


@pytest.fixture(scope="module", params=PACKAGES, ids=lambda p: p.name)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the plugin's folder, Python of an environment where it is the only plugin of ours)."""
    package, folder = request.param, tmp_path_factory.mktemp("alone")
    venv.create(folder / "environment", with_pip=False, symlinks=os.name != "nt")
    python = folder / "environment" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    for packages in site.getsitepackages():
        for entry in Path(packages).iterdir():
            if not is_a_plugin(entry.name) and not (own / entry.name).exists():
                (own / entry.name).symlink_to(entry)
    copied = shutil.copytree(package, folder / "package")  # setuptools writes beside the sources
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(copied)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return package, python


def run(python: Path, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-m", *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_there_are_plugins():
    assert {package.name for package in PACKAGES} >= {"phi3kit-blocksparse", "phi3kit-moe", "phi3kit-vision"}


def test_it_is_found_alone_and_nothing_is_broken(alone, tmp_path):
    package, python = alone
    others = [metadata(other)["name"] for other in PACKAGES if other != package]
    said = run(python, tmp_path, "phi3kit.cli", "plugins", "--check")
    assert metadata(package)["name"] in said
    assert not [name for name in others if name in said]
    assert "\nfaults: 0" in said


def test_what_it_needs_is_declared(alone):
    package, _ = alone
    assert any(requirement.startswith("phi3kit") for requirement in metadata(package)["dependencies"])
    assert (package / "README.md").is_file()


@pytest.mark.slow
def test_its_own_tests_pass_alone(alone):
    package, python = alone
    summary = run(python, package, "pytest", "-q", "-p", "no:cacheprovider", str(package / "tests"))
    assert " passed" in summary.splitlines()[-1]
    assert "failed" not in summary.splitlines()[-1]
