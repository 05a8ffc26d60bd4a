"""``phi3kit new-plugin`` writes a package that installs and whose tests pass as written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from arithmetic import environment

from phi3kit import cli
from phi3kit.verbs.new_plugin import TEMPLATE


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    assert cli.main(["new-plugin", "acme-calm", "--into", str(folder)]) == 0
    return folder / "acme-calm"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder.parent / "site"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env={**environment(), "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_it_installs_and_its_tests_pass(package):
    built = shutil.copytree(package, package.parent / "built")  # setuptools writes beside the sources
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    installed = run(package, "pip", "install", *offline, "--target", str(package.parent / "site"), str(built))
    assert installed.returncode == 0, installed.stderr
    tested = run(package, "pytest", "-p", "no:cacheprovider", "-q")
    assert tested.returncode == 0, tested.stdout
    assert int(tested.stdout.strip().splitlines()[-1].split()[0]) >= 6  # "8 passed in 4.2s"


def test_nothing_of_the_example_is_left(package):
    files = [path for path in package.rglob("*") if path.suffix in (".py", ".md", ".toml")]
    assert len(files) == len([p for p in TEMPLATE.rglob("*") if p.suffix in (".py", ".md", ".toml")])
    assert len(files) > 5
    for path in files:
        assert "example" not in str(path.relative_to(package)).lower()
        assert "example" not in path.read_text().lower()


def test_its_metadata(package):
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    assert project["name"] == "acme-calm"
    assert project["entry-points"]["phi3kit"] == {"acme-calm": "acme_calm"}
    assert "class AcmeCalmAttention(Attention)" in (package / "src" / "acme_calm" / "attention.py").read_text()


def test_an_existing_folder_is_left_alone(package, capsys):
    before = (package / "README.md").read_text()
    assert cli.main(["new-plugin", "acme-calm", "--into", str(package.parent)]) == 2
    said = capsys.readouterr().err
    assert said == f"phi3kit: error: {package} is there already; choose another name, or --into another folder\n"
    assert (package / "README.md").read_text() == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Acme_Calm", "cannot name a plugin"),
        ("../calm", "cannot name a plugin"),
        ("3d", "cannot name a plugin"),
        ("calm-", "cannot name a plugin"),
        ("class", "is taken"),
        ("json", "is taken"),
        ("phi3kit", "is taken"),
    ],
)
def test_bad_name(name, said, tmp_path, capsys):
    assert cli.main(["new-plugin", name, "--into", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())
