"""``phi3kit convert``, as a user meets it."""

from __future__ import annotations

import io

from public_checkpoints import BASE, same_files, write_checkpoint

from phi3kit.cli import main
from phi3kit.verbs.convert import progress


def test_there_chat_and_back(tiny_run, memorised, tmp_path, capsys, monkeypatch):
    """A trained run, written for transformers and read again, still knows its answers."""
    assert main(["convert", str(tiny_run), str(tmp_path / "public")]) == 0
    assert main(["convert", str(tmp_path / "public"), str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "Phi3ForCausalLM, " in printed.out
    assert "tokenizer: HuggingFaceTokenizer, 512 ids" in printed.out
    assert f"written: {tmp_path / 'run'}" in printed.out
    assert printed.err == ""
    question = next(iter(memorised))
    monkeypatch.setattr("sys.stdin", io.StringIO(question + "\n"))
    assert main(["chat", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == memorised[question] + "\n"
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "back")]) == 0
    assert same_files(tmp_path / "public", tmp_path / "back")


def test_a_type_that_the_weights_are_written_in(tiny_run, tmp_path, capsys):
    assert main(["convert", str(tiny_run), str(tmp_path / "public"), "--dtype", "bfloat16"]) == 0
    assert "BF16" in capsys.readouterr().out
    small = sum(path.stat().st_size for path in (tmp_path / "public").glob("*.safetensors"))
    large = (tiny_run / "model.safetensors").stat().st_size
    assert 0.45 < small / large < 0.55


def test_a_refusal_is_one_line(tmp_path, capsys):
    folder = write_checkpoint(tmp_path / "public", {**BASE, "architectures": ["Nothing"]})
    assert main(["convert", str(folder), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("phi3kit: error: the architecture 'Nothing' is not known")
    assert printed.err.count("\n") == 1


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    seconds = iter(range(0, 1000, 6))
    monkeypatch.setattr("phi3kit.verbs.convert.time.monotonic", lambda: next(seconds))
    assert list(progress(iter([10**9] * 4), 5 * 10**9)) == [10**9] * 4
    assert capsys.readouterr().err.splitlines() == [
        "2.0 of 5.0 GB, about 18 s left",
        "4.0 of 5.0 GB, about 6 s left",
    ]


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert list(progress(iter([10**9] * 5), 5 * 10**9)) == [10**9] * 5
    assert "5.0/5.0 GB" in capsys.readouterr().err
