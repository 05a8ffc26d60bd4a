"""A stranger's distribution, installed with pip into a scratch environment, is found wherever ours is.

The scratch environment is a virtual environment that sees this one's packages; pip works offline.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml
from arithmetic import RECIPE, environment, write_arithmetic

STRANGER = Path(__file__).parent / "stranger"
TESTS = Path(__file__).parents[1]


def scratch_environment(folder: Path) -> Path:
    """A virtual environment that sees the packages of this one; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    seen = [path for path in {*site.getsitepackages(), site.getusersitepackages()} if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in seen]  # its .pth files too: editable installs
    (Path(own) / "beyond.pth").write_text("\n".join(lines) + "\n")
    return python


def pip_install(python: Path, package: Path) -> None:
    """Install from source without the network."""
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *offline, str(package)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a scratch environment in which the stranger is installed."""
    folder = tmp_path_factory.mktemp("scratch")
    python = scratch_environment(folder / "environment")
    shutil.copytree(STRANGER, folder / "package")  # setuptools writes beside the sources
    pip_install(python, folder / "package")
    return python


def run(python: Path | str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


def phi3kit(python: Path | str, folder: Path, *arguments: str) -> str:
    """Standard output of a verb that succeeds."""
    done = run(python, folder, "phi3kit.cli", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stranger_is_not_installed_here(tmp_path):
    assert "acme-tempered" not in phi3kit(sys.executable, tmp_path, "plugins")


def test_plugins_lists_it(python, tmp_path):
    lines = [line.split() for line in phi3kit(python, tmp_path, "plugins").splitlines()]
    assert lines[0][0] == "phi3kit"
    assert ["acme-tempered", "0.3.1", "acme", "=", "acme_tempered.plugin"] in lines


def test_check_lists_its_components(python, tmp_path):
    said = phi3kit(python, tmp_path, "plugins", "--check")
    families = {}
    for line in said.splitlines():
        if line and not line.startswith(" "):
            family = line
        elif line:
            families[line.split()[0]] = (family, line.split()[1:3])
    assert families["TemperedAttention"] == ("Attention", ["acme-tempered", "0.3.1"])
    assert families["LonelyWords"] == ("Filter", ["acme-tempered", "0.3.1"])
    assert families["GroupedQueryAttention"][1][0] == "phi3kit"
    assert said.endswith("faults: 0\n")


def test_help_offers_it(python, tmp_path):
    said = "".join(phi3kit(python, tmp_path, "fit", "--help").split())
    assert "acme_tempered.parts.TemperedAttention" in said


def test_a_recipe_trains_with_it(python, tmp_path):
    """By its short name; the saved recipe names its distribution, and says so where it is missing."""
    folder = write_arithmetic(tmp_path)
    tempered = {"class_path": "TemperedAttention", "init_args": {"temperature": 2.0}}
    net = {**RECIPE["net"], "attention": [{"class_path": "GroupedQueryAttention"}, tempered]}
    recipe = {**RECIPE, "net": net, "trainer": {**RECIPE["trainer"], "max_steps": 4}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    phi3kit(python, folder, "fit", "--recipe", "recipe.yaml", "--out", "run")
    saved = (folder / "run" / "config.yaml").read_text()
    header = [line for line in saved.splitlines() if line.startswith("#")]
    assert any("TemperedAttention (acme-tempered 0.3.1)" in line for line in header), header
    assert yaml.safe_load(saved)["net"]["attention"][1]["init_args"] == {"temperature": 2.0}

    without = run(sys.executable, folder, "phi3kit.cli", "fit", "--recipe", "run/config.yaml", "--out", "again")
    assert without.returncode == 2
    (line,) = without.stderr.strip().splitlines()
    assert line.endswith("TemperedAttention needs the plugin acme-tempered 0.3.1, which is not installed here")


def test_a_recipe_prepares_with_it(python, tmp_path):
    """Its filter, by its short name, with an option of its own."""
    texts = [
        "The lamp turns.\nIt turns twice a minute.",
        "one\nword\nper\nline",
        "two\nlonely\nand one that is not",
    ]
    rows = [json.dumps({"text": text * 20}) for text in texts * 10]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    preparation = {
        "readers": [{"class_path": "JSONLines", "init_args": {"path": "texts.jsonl"}}],
        "filters": [{"class_path": "LonelyWords", "init_args": {"most": 0.7}}],
        "vocab_size": 300,
        "holdout": 0.3,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"verb": "prepare", "preparation": preparation}))
    phi3kit(python, tmp_path, "prepare", "--recipe", "recipe.yaml", "--out", "data")
    rejected = [json.loads(line) for line in (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()]
    assert {(row["filter"], row["reason"]) for row in rejected} >= {("LonelyWords", "one word per line")}


def test_the_contract_tests_check_it(python, tmp_path):
    chosen = ["-k", "acme-tempered", "-v", "-p", "no:cacheprovider", "--rootdir", str(TESTS.parent)]
    done = run(python, tmp_path, "pytest", str(TESTS / "contracts"), *chosen)
    assert done.returncode == 0, done.stdout
    for name in ("TemperedAttention", "LonelyWords"):
        assert f"[acme-tempered:{name}] PASSED" in done.stdout
