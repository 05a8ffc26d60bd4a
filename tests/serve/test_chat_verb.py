"""``phi3kit chat``, piped."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from phi3kit.cli import main
from phi3kit.model.engine import NetEngine
from phi3kit.serve import Chat
from phi3kit.testing import tiny
from phi3kit.verbs import typed
from phi3kit.verbs.chat import _turn


class Keyboard(io.StringIO):
    """Lines that are typed, not piped."""

    def isatty(self) -> bool:
        return True


def test_in_a_pipe(tiny_bundle, memorised):
    """A process of its own: what it prints, on both streams, is the conversation and nothing else."""
    first, second = list(memorised)[:2]
    done = subprocess.run(
        [sys.executable, "-m", "phi3kit.cli", "chat", str(tiny_bundle)],
        input=f"{first}\n/reset\n\n{second}\n".encode(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [memorised[first], memorised[second]]
    assert done.stderr.decode() == ""


def test_a_turn_too_long_is_one_line_and_not_the_end(tiny_run, memorised, monkeypatch, capsys):
    first = next(iter(memorised))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{'word ' * 200}\n{first}\n"))
    assert main(["chat", str(tiny_run)]) == 0
    printed = capsys.readouterr()
    assert printed.out == memorised[first] + "\n"
    assert printed.err.count("\n") == 1
    assert "128 of 128 are left" in printed.err


def test_a_cut_answer_is_said(tiny_run, memorised, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(next(iter(memorised)) + "\n"))
    assert main(["chat", str(tiny_run), "--max-new-tokens", "2"]) == 0
    assert "(cut after 2 tokens" in capsys.readouterr().err


def test_a_temperature_that_makes_no_sense(tiny_run, capsys):
    assert main(["chat", str(tiny_run), "--temperature", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("phi3kit: error: temperature -1.0 is negative; 0 is greedy")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-new-tokens", "0"], "--max-new-tokens is 0; an answer has at least 1 token"),
        (["--max-new-tokens", "-3"], "--max-new-tokens is -3"),
        (["--temperature", "nan"], "temperature nan is no number"),
        (["--temperature", "inf"], "temperature inf is no number"),
        (["--top-p", "0"], "top_p 0.0 is not in"),
        (["--top-p", "nan"], "top_p nan is not in"),
        (["--seed", str(2**70)], "is too large"),
        (["--system", "caf\udce9"], "the system message is not text: character 4 is the byte 0xe9"),
    ],
)
def test_options_that_make_no_sense_are_one_line(tiny_run, capsys, options, said):
    assert main(["chat", str(tiny_run), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("phi3kit: error: ")
    assert said in error
    assert error.count("\n") == 1


def test_commands_at_a_terminal(tiny_run, memorised, monkeypatch, capsys):
    question = next(iter(memorised))
    lines = ["/help", "/reset", "/rest", "/etc/hosts", question, "Quit", "never read"]
    monkeypatch.setattr("sys.stdin", Keyboard("\n".join(lines) + "\n"))
    assert main(["chat", str(tiny_run), "--max-new-tokens", "40"]) == 0
    printed = capsys.readouterr()
    assert "begin a new conversation" in printed.out
    assert "(a new conversation)" in printed.out
    assert "there is no command '/rest'; did you mean '/reset'?" in printed.err
    assert "/etc/hosts" not in printed.err, "that is a question"
    assert printed.out.count("you> ") == 6


def test_words_in_a_pipe_are_questions(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("exit\n/nothing\n/quit\nnever read\n"))
    assert main(["chat", str(tiny_run), "--max-new-tokens", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert "there is no command '/nothing'" in printed.err


class Interrupted(Chat):  # type: ignore[misc]
    """A chat whose answer is stopped by Ctrl-C after its first piece."""

    def ask(self, text):
        yield "One"
        self.cut = True
        raise KeyboardInterrupt


def chat_of(kind: type[Chat] = Chat, context: int = 64) -> Chat:
    return kind(NetEngine(tiny.net(tiny.dims(vocab_size=512, context=context))), tiny.tokenizer())


def test_ctrl_c_within_an_answer_is_no_length_limit(capsys):
    _turn(chat_of(Interrupted), "x", terminal=True)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("One …\n", "")
    with pytest.raises(KeyboardInterrupt):
        _turn(chat_of(Interrupted), "x", terminal=False)


@pytest.mark.parametrize("says", [True, False])
def test_a_full_context_offers_a_new_conversation(says, monkeypatch, capsys):
    chat = chat_of(context=24)
    asked = []
    monkeypatch.setattr(typed, "agreed", lambda question: asked.append(question) or says)
    _turn(chat, "a", terminal=True)
    assert "(cut at the end of the context; /reset begins a new conversation)" in capsys.readouterr().err
    _turn(chat, "b", terminal=True)
    printed = capsys.readouterr()
    assert asked == ["Begin a new conversation with it?"]
    assert "0 of 24 are left" in printed.err
    assert bool(printed.out) == says
    _turn(chat, "word " * 50, terminal=True)
    assert len(asked) == 1, "one that fits into no context is only refused"
    _turn(chat, "b", terminal=False)
    assert len(asked) == 1, "nobody can be asked in a pipe"
