"""The command itself: quick answers, verbs by their nearest name, one line per mistake."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from phi3kit import __version__, cli

HEAVY = ["torch", "lightning", "jsonargparse", "transformers"]


def phi3kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "phi3kit.cli", *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--help"], "usage: phi3kit VERB"),
        (["--version"], __version__),
        (["plugins"], "builtin = phi3kit.builtin"),
    ],
)
class TestQuickAnswers:
    def test_answer(self, arguments, says):
        done = phi3kit(*arguments)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout

    def test_nothing_heavy_is_imported(self, arguments, says):
        script = (
            f"import sys; from phi3kit import cli; assert cli.main({arguments!r}) == 0; "
            f"print('loaded:', *[m for m in {HEAVY} if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "loaded:"


def test_every_verb_is_in_the_help(capsys):
    assert cli.main([]) == 0
    listed = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert listed == set(cli.VERBS)
    assert len(listed) > 8


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_every_verb_has_a_main(verb):
    module = __import__(cli.VERBS[verb][0], fromlist=["main"])
    assert callable(module.main)


@pytest.mark.parametrize(("typed", "meant"), [("fitt", "fit"), ("plugin", "plugins"), ("new_plugin", "new-plugin")])
def test_unknown_verb(typed, meant, capsys):
    assert cli.main([typed]) == 2
    said = capsys.readouterr().err.strip()
    assert said == f"phi3kit: error: there is no verb {typed!r}; did you mean {meant!r}?"


def test_env_reports_versions_and_devices(capsys):
    code = cli.main(["env"])
    said = capsys.readouterr().out
    for word in (__version__, sys.version.split()[0], "torch", "executorch", "cores", "memory", "cuda"):
        assert word in said
    missing = said.partition("missing or mismatching\n")[2].split()
    assert (code == 0) == (missing == ["none"])


def test_env_names_what_is_missing(tmp_path):
    """An environment of its own: a distribution `phi3kit` that requires what is not there."""
    folder = tmp_path / "phi3kit-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: phi3kit\nVersion: 9\n"
        "Requires-Dist: torch<1\nRequires-Dist: no-such-thing>=2\nRequires-Dist: pluggy\n"
        'Requires-Dist: no-such-extra; extra == "test"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "phi3kit.cli", "env"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode == 1, done.stderr
    faults = done.stdout.partition("missing or mismatching\n")[2].splitlines()
    assert len(faults) == 2
    assert "torch" in faults[0]
    assert "requires torch<1" in faults[0]
    assert faults[1].split()[:4] == ["no-such-thing", "is", "not", "installed;"]
