"""Other models' templates in a bundle: pieces to join, Jinja for apps, and the same ids when the bundle is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_templates import CHATML, FORMS, SYSTEM, TALK, both

from phi3kit import UserError
from phi3kit.export.apps import instructions
from phi3kit.export.assemble import write_tokenizer
from phi3kit.export.device_text import check_device_text
from phi3kit.export.javascript_template import check_chat_template
from phi3kit.export.samples import AWKWARD
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm, Message
from phi3kit.testing import tiny
from phi3kit.text import render, render_turn, stop_ids
from phi3kit.text.chat_form import with_form
from phi3kit.text.device_template import template, tokenizer_of_bundle
from phi3kit.text.template import segments, stop_tokens

TEXTS = [*AWKWARD, " \n\t\u3000begins with white space\n", 'it\'s "quoted" \\ {{ braces }} {% if %}']
DEFAULT_SYSTEM = CHATML.replace(
    "{% for m",
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nHelp.<|im_end|>\n' }}{% endif %}{% for m",
    1,
)


def about(tokenizer: Tokenizer, folder: Path) -> dict[str, object]:
    """What bundle.json says of text, its files beside it."""
    write_tokenizer(folder, tokenizer)
    named = {"tokenizer": "tokenizer.json", "tokenizer_config": "tokenizer_config.json"}
    return {**named, "template": template(tokenizer), "stop": {"ids": stop_ids(tokenizer)}}


@pytest.mark.parametrize("name", FORMS)
def test_the_pieces_join_to_what_training_read(name: str) -> None:
    tokenizer = both(*FORMS[name])[1]
    pieces = template(tokenizer)
    assert ("system" in pieces) is (name != "Phi-3-medium")
    talk = [Message(m.role, m.content.strip()) for m in TALK if m.role in pieces]
    fill = lambda m: pieces[m.role].replace("{content}", m.content)  # noqa: E731
    first = talk[: -len(TALK[2:])]
    joined = pieces["begin"] + "".join(map(fill, first)) + pieces["answer"]
    joined += talk[-3].content + pieces["next"].replace("{content}", talk[-2].content)
    assert joined == "".join(s.text for s in segments(talk[:-1], tokenizer, generation=True))


@pytest.mark.parametrize("name", FORMS)
def test_a_device_has_the_ids_of_training(name: str, tmp_path: Path) -> None:
    tokenizer = both(*FORMS[name])[1]
    write_tokenizer(tmp_path, tokenizer)
    config = tmp_path / "tokenizer_config.json"
    assert json.loads(config.read_text())["eos_token"] == stop_tokens(tokenizer)[0]
    found = check_device_text(tmp_path / "tokenizer.json", tokenizer, TEXTS, tokenizer.vocab_size)
    assert found["faults"] == []
    rendered = check_chat_template(config, tmp_path / "tokenizer.json", tokenizer, TEXTS)
    assert rendered["faults"] == []
    assert rendered["conversations"] >= 2


@pytest.mark.parametrize("name", FORMS)
def test_a_bundle_talks_as_its_run(name: str, tmp_path: Path) -> None:
    tokenizer = both(*FORMS[name])[1]
    again = tokenizer_of_bundle(about(tokenizer, tmp_path), tmp_path)
    talk = TALK[name == "Phi-3-medium" :]
    assert render(talk, again, generation=True).ids == render(talk, tokenizer, generation=True).ids
    assert render_turn("Why?", again) == render_turn("Why?", tokenizer)
    assert set(stop_ids(again)) >= set(stop_ids(tokenizer))


def test_bundles_of_our_template_old_and_new(tmp_path: Path) -> None:
    said = about(tiny.tokenizer(), tmp_path)
    assert tokenizer_of_bundle(said, tmp_path).chat_form is None
    old = {**said, "stop": {"ids": stop_ids(tiny.tokenizer())[:2]}}
    assert tokenizer_of_bundle(old, tmp_path).chat_form is None
    more = {**said, "stop": {"ids": [*stop_ids(tiny.tokenizer()), 7]}}
    assert stop_ids(tokenizer_of_bundle(more, tmp_path))[-1] == 7


def test_a_default_system_turn_is_in_front_and_no_other_has_a_place(tmp_path: Path) -> None:
    tokenizer = both(DEFAULT_SYSTEM, *FORMS["ChatML"][1:])[1]
    pieces = template(tokenizer)
    assert pieces["begin"] == "<|im_start|>system\nHelp.<|im_end|>\n"
    assert "system" not in pieces
    with pytest.raises(UserError, match="refuses the conversation"):
        render([SYSTEM, *TALK[1:]], tokenizer_of_bundle(about(tokenizer, tmp_path), tmp_path))


def test_a_template_that_is_not_made_of_pieces_is_refused() -> None:
    counted = CHATML.replace("m['content']", "(loop.index | string if m.role == 'user' else '') + m['content']")
    with pytest.raises(UserError, match="not made of pieces, one for each role"):
        template(both(counted, *FORMS["ChatML"][1:])[1])


def test_the_page_for_apps_follows(tmp_path: Path) -> None:
    tokenizer = with_form(both(*FORMS["ChatML"])[1], ChatForm(CHATML, (513,)))
    said = about(tokenizer, tmp_path) | {"name": "tiny", "model": "phi4_tiny.pte", "bytes": {"program": 1}, "notes": []}
    said |= {"versions": {"executorch": "1.4.1"}, "program": {"delegates": ["XnnpackBackend"]}}
    said |= {"context": 64, "remembers": 64, "stop": {"ids": [513], "tokens": stop_tokens(tokenizer)}}
    page = instructions(said, "ab" * 32)
    assert "<|im_end|>\n<|im_start|>user\n{{ user_prompt }}<|im_end|>\n<|im_start|>assistant" in page
    assert "ends with a visible `<|im_end|>`" in page
    assert "stop at the ids 513, and show no piece that equals `<|im_end|>`" in page
    assert "is **not** this model's" in page
    assert "<|end|>" not in page.replace("`<|user|>…<|end|><|assistant|>`", "")
