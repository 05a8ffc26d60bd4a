"""Scores: a net and an engine are asked alike; quality is zero loss against itself."""

from __future__ import annotations

import errno
import math
import os
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from phi3kit import UserError
from phi3kit.cli import main
from phi3kit.export.answers import answers_of_net, questions, share_of_engine, share_of_net
from phi3kit.export.float_reference import block_errors, float_logits
from phi3kit.export.program import Program
from phi3kit.export.quality import compare_on_text, kept, of_engine, of_net
from phi3kit.export.report import quality, scores
from phi3kit.measures import kl_divergence, token_log_probs, top1_agreement
from phi3kit.model import LongRoPE
from phi3kit.model.engine import NetEngine
from phi3kit.model.load import load_run
from phi3kit.model.source import RunSource
from phi3kit.quantizers import Int8DynamicInt4Weight
from phi3kit.records import Conversation, Message
from phi3kit.testing import tiny
from phi3kit.text import load_tokenizer, stop_ids
from phi3kit.verbs import export


def chats(pairs: dict[str, str]) -> list[Conversation]:
    return [Conversation((Message("user", q), Message("assistant", a)), id=q) for q, a in pairs.items()]


def test_exact_answers_are_counted(tiny_run, memorised):
    net, tokenizer = load_run(tiny_run), load_tokenizer(tiny_run / "tokenizer")
    names = list(memorised)
    pairs = memorised | {names[0]: "Something else.", names[1]: memorised[names[1]] + " And more."}
    asked = questions(chats(pairs), tokenizer)
    assert share_of_net(net, asked, tokenizer) == 4 / 6
    assert share_of_engine(NetEngine(net), asked, tokenizer) == 4 / 6


def test_a_large_float_net_is_not_asked(tiny_run, memorised, monkeypatch, capsys):
    """It would have to be whole in memory; asking this one is an error, since the order has none."""
    source, tokenizer = RunSource(tiny_run), load_tokenizer(tiny_run / "tokenizer")
    program = export.quantized(source, Int8DynamicInt4Weight(), None)
    order: Any = SimpleNamespace(asked={"taught": chats(memorised)}, tokenizer=tokenizer, beside={})
    monkeypatch.setattr("phi3kit.export.verify.LARGE", program.net.parameter_count() - 1)
    report = export._scores(order, program, lambda: NetEngine(load_run(tiny_run)))
    assert report["taught"]["questions"] == len(memorised)
    assert list(report["taught"]["exact"]) == ["quantized", "program"]
    assert report["taught"]["exact"]["program"] == 1.0
    assert "the float net is not asked: it would take 0.0 GB of memory" in capsys.readouterr().out


def test_many_at_once_answer_as_one_at_a_time():
    """Also where LongRoPE switches lists within an answer."""
    position = partial(LongRoPE, short_factor=[1.0] * 4, long_factor=[1.5, 2, 3, 4], original_context=16)
    net, tokenizer = tiny.net(tiny.dims(vocab_size=512), position=position), tiny.tokenizer()
    pairs = {text[:n]: "An answer of some tokens." for text in tiny.TEXTS for n in (3, 12, 30)}
    asked = questions(chats(pairs), tokenizer)
    lengths = [len(question.prompt) for question in asked]
    assert len(set(lengths)) < len(lengths), "some are asked together"
    assert min(lengths) <= 16 < max(lengths)
    stops = stop_ids(tokenizer)
    together = answers_of_net(net, asked, stops)
    engine = NetEngine(net)
    for question, answer in zip(asked, together, strict=True):
        engine.reset()
        alone = list(engine.answer(question.prompt, stop_ids=stops, max_new_tokens=question.limit))
        assert answer == alone


def test_a_conversation_without_an_answer_is_refused():
    with pytest.raises(UserError, match="conversation 'c7' has no answered question"):
        questions([Conversation((Message("user", "Why?"),), id="c7")], tiny.tokenizer())


def test_no_loss_against_itself_and_some_against_another():
    net = tiny.net()
    rows = list(torch.randint(96, (3, 20), generator=torch.Generator().manual_seed(0)))
    wanted = [net(row[None])[0] for row in rows]
    program = Program(tiny.net(), 64)
    columns = {"quantized": lambda: of_net(program, rows), "program": lambda: of_engine(lambda: NetEngine(net), rows)}
    same = compare_on_text(wanted, columns, rows)
    assert same["tokens"] == 57
    for column in ("quantized", "program"):
        assert same["kl_to_float"][column] == pytest.approx(0, abs=1e-5)
        assert same["top1_agreement"][column] == 1
        assert same["perplexity"][column] == pytest.approx(same["perplexity"]["float"], rel=1e-4)
    other = compare_on_text(wanted, {"program": lambda: of_engine(lambda: NetEngine(tiny.net(seed=1)), rows)}, rows)
    assert other["kl_to_float"]["program"] > 0.5
    assert other["top1_agreement"]["program"] < 0.5
    assert "quantized" not in other["perplexity"]


def test_quality_is_that_of_all_tokens_at_once():
    """Rows of different lengths: the means are over tokens, as when everything is computed together."""
    net, other = tiny.net(), tiny.net(seed=1)
    rows = [torch.arange(5), torch.arange(40, 90)]
    wanted = [net(row[None])[0] for row in rows]
    found = compare_on_text(wanted, {"program": lambda: of_engine(lambda: NetEngine(other), rows)}, rows)
    with torch.no_grad():
        wanted, got = (torch.cat([n(row[None])[0, :-1] for row in rows]) for n in (net, other))
    loss = torch.nn.functional.cross_entropy(got, torch.cat([row[1:] for row in rows]))
    divergence = torch.nn.functional.kl_div(got.log_softmax(-1), wanted.softmax(-1), reduction="batchmean")
    assert found["perplexity"]["program"] == pytest.approx(float(loss.exp()), rel=1e-4)
    assert found["kl_to_float"]["program"] == pytest.approx(float(divergence), rel=1e-4)


def test_from_disk_and_one_after_the_other_the_numbers_are_the_same(tmp_path):
    """As if the float net's logits, the quantized net and the program were in memory together."""
    net, program, rows = tiny.net(), Program(tiny.net(seed=1), 64), [torch.arange(5), torch.arange(40, 90)]
    opened: list[weakref.ref[NetEngine]] = []

    def open_engine() -> NetEngine:
        engine = NetEngine(tiny.net(seed=2))
        opened.append(weakref.ref(engine))
        return engine

    def after_the_program() -> Iterator[torch.Tensor]:
        assert [engine() for engine in opened] == [None], "the program is still held"
        return of_net(program, rows)

    float_logits = [net(row[None])[0].detach() for row in rows]
    wanted = kept(iter(float_logits), rows, 96, tmp_path / "logits")
    assert all(torch.equal(got_TV, wanted_TV) for got_TV, wanted_TV in zip(wanted, float_logits, strict=True))
    columns = {"program": lambda: of_engine(open_engine, rows), "quantized": after_the_program}
    apart = compare_on_text(wanted, columns, rows)
    engine = NetEngine(tiny.net(seed=2))
    for column in columns:
        sums = dict.fromkeys(("loss", "kl", "top1"), 0.0)
        for logits_TV, row in zip(float_logits, rows, strict=True):
            ids, reference_TV = row.tolist()[:-1], logits_TV[:-1]
            engine.reset()
            read = [engine.ingest([id]) for id in ids]
            got_TV = torch.stack(read) if column == "program" else program.every_logit(ids)
            sums["loss"] += -float(token_log_probs(got_TV, row[1:]).mean()) * len(ids)
            sums["kl"] += float(kl_divergence(reference_TV, got_TV)) * len(ids)
            sums["top1"] += float(top1_agreement(reference_TV, got_TV)) * len(ids)
        assert apart["perplexity"][column] == math.exp(sums["loss"] / 53)
        assert apart["kl_to_float"][column] == sums["kl"] / 53
        assert apart["top1_agreement"][column] == sums["top1"] / 53


def test_a_disk_without_room_for_the_logits(tmp_path, monkeypatch):
    def full(descriptor: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot write .*logits: No space left on device; free some space"):
        kept([torch.zeros(5, 96)], [torch.arange(5)], 96, tmp_path / "logits")


def test_the_quality_table_has_a_column_for_each_form():
    text = {
        "tokens": 2048,
        "perplexity": {"float": 12.3, "quantized": 12.61, "program": 12.6},
        "kl_to_float": {"quantized": 0.0411, "program": 0.041},
        "top1_agreement": {"quantized": 0.9, "program": 0.91},
    }
    rows = quality(text)
    assert len({len(row) for row in rows}) == 1
    assert rows[0].split() == ["2048", "held-out", "tokens", "float", "quantized", "program"]
    assert rows[2].split() == ["KL", "to", "float,", "nats", "–", "0.0411", "0.0410"]
    assert rows[3].split() == ["top-1", "agreement", "–", "90.0%", "91.0%"]
    assert quality({}) == []


def test_a_streamed_reference_is_the_net_in_memory(tiny_run):
    source = RunSource(tiny_run)
    net = load_run(tiny_run).float()
    rows = [torch.arange(24), torch.arange(30, 50)]
    with torch.no_grad():
        for got_TV, row in zip(float_logits(source, rows), rows, strict=True):
            assert torch.allclose(got_TV, net(row[None])[0], atol=1e-5)
    assert max(block_errors(source, net, rows)) < 1e-6
    Int8DynamicInt4Weight(embedding_bits=2).quantize(net)
    errors = block_errors(source, net, rows)
    assert len(errors) == net.dims.n_layers
    assert 1e-4 < min(errors) <= max(errors) < 0.3


def test_the_table_lines_up():
    rows = scores({"taught": {"questions": 340, "exact": {"float": 0.956, "program": 1.0, "the phase-3 model": 0.0}}})
    assert len({len(row) for row in rows}) == 1
    assert rows[1].split() == ["taught", "340", "95.6%", "100.0%", "0.0%"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--start_from", "nowhere"], "start_from: there is no run at nowhere"),
        (["--context", "4000"], "context 4000 does not fit; the net was trained for 128"),
        (["--heldout", "nowhere"], "there are no tokens at nowhere"),
        (["--questions", '{"a": "nowhere.jsonl"}'], "there is no file 'nowhere.jsonl'"),
        (["--beside", '{"a": "nowhere"}'], "beside names runs to ask the questions, but there are no questions"),
        (["--name", "a/b"], "name 'a/b' does not work as a file name"),
        (["--quantizer", "Int8DynamicInt4Weight", "--quantizer.group_size", "48"], "group_size 48 does not work"),
        (["--quantizer", "Int8DynamicInt4Weight", "--quantizer.group_size", "96"], r"group_size 32 or 64 fits every"),
    ],
)
def test_bad_input_is_one_line_at_once(given, message, tiny_run, tmp_path: Path, capsys):
    base = ["export", "--out", str(tmp_path / "out"), "--start_from", str(tiny_run), "--name", "x"]
    assert main([*base, *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
