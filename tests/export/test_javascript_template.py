"""The chat template as apps render it: append-only, to the model's ids, in Python's Jinja and in JavaScript's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from phi3kit.export.assemble import write_tokenizer
from phi3kit.export.javascript_template import PACKAGE, check_chat_template, in_javascript
from phi3kit.export.proof import template_point
from phi3kit.export.samples import AWKWARD
from phi3kit.families import Tokenizer
from phi3kit.testing import tiny
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer

FILES = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
REAL = {
    "phi-3-mini, medium, 3.5, MoE": (HuggingFaceTokenizer, "phi-3-mini/tokenizer.json"),
    "phi-3-vision": (HuggingFaceTokenizer, "phi-3-vision/tokenizer.json"),
    "phi-3-small": (Cl100kTokenizer, "phi-3-small/cl100k_base.tiktoken"),
}
TEXTS = [*AWKWARD, " \n\t\u3000begins with white space\n", 'it\'s "quoted" \\ {{ braces }} {% if %}', "say <|end|> now"]


def _like(tokenizer: Tokenizer, *, swallows: bool, opens: bool) -> HuggingFaceTokenizer:
    """The tiny tokenizer, its special tokens as another model's."""
    content = json.loads(tokenizer.content)  # type: ignore[attr-defined]
    for token in content["added_tokens"]:
        token["rstrip"] = swallows
    if opens:
        (id,) = [t["id"] for t in content["added_tokens"] if t["content"] == "<|endoftext|>"]
        begin, text = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        known = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [id], "tokens": ["<|endoftext|>"]}}
        content["post_processor"] = {"type": "TemplateProcessing", "single": [begin, text], "pair": [begin, text]}
        content["post_processor"] |= {"special_tokens": known}
    return HuggingFaceTokenizer.from_content(json.dumps(content))


KINDS = {
    "swallows": lambda: _like(tiny.tokenizer(), swallows=True, opens=False),  # phi-3-mini, medium, 3.5, MoE
    "newlines": lambda: _like(tiny.tokenizer(), swallows=False, opens=False),  # phi-3-small, phi-4-mini
    "opens": lambda: _like(tiny.tokenizer(), swallows=True, opens=True),  # phi-3-vision
}


@pytest.fixture(params=[*KINDS, *REAL], scope="module")
def bundle(request, tmp_path_factory) -> tuple[Path, Tokenizer]:
    """A folder with the device's files, and the model's tokenizer."""
    if request.param in KINDS:
        tokenizer: Tokenizer = KINDS[request.param]()
    else:
        kind, file = REAL[request.param]
        if not (FILES / file).is_file():
            pytest.skip(f"{file} is not there (a licence question: the project ships no tokenizer)")
        tokenizer = kind(str(FILES / file))
    folder = tmp_path_factory.mktemp("device")
    write_tokenizer(folder, tokenizer)
    return folder, tokenizer


@pytest.fixture(scope="module")
def node() -> None:
    """JavaScript's Jinja."""
    answer = in_javascript("{{ messages }}", [])
    if answer.not_run:
        pytest.skip(answer.not_run)


def check(folder: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    return check_chat_template(folder / "tokenizer_config.json", folder / "tokenizer.json", tokenizer, TEXTS)


def test_every_familys_template_in_python(bundle, monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = check(*bundle)
    assert found["faults"] == []
    assert found["conversations"] == 3
    assert found["renderings"] >= 22
    assert [name.partition(" ")[0] for name in found["renderers"]] == ["jinja2"]
    point = template_point(found)
    assert point.status == "not run"
    assert point.not_run.startswith("there is no Node.js here")


def test_every_familys_template_in_javascript(bundle, node):
    found = check(*bundle)
    assert found["faults"] == []
    assert [name.partition(" ")[0] for name in found["renderers"]] == ["jinja2", PACKAGE]
    assert template_point(found).status == "passed"


@pytest.fixture
def folder(tmp_path) -> Path:
    write_tokenizer(tmp_path, tiny.tokenizer())
    return tmp_path


def faults_with(folder: Path, **changed: Any) -> list[str]:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({key: v for key, v in (json.loads(file.read_text()) | changed).items() if v}))
    return check(folder, tiny.tokenizer())["faults"]


def test_a_template_that_changes_what_it_said(folder):
    own = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    ended = own.replace("{% if add_gen", "{% if not add_generation_prompt %}<|endoftext|>{% endif %}{% if add_gen")
    (python, *_) = faults_with(folder, chat_template=ended)
    assert python.startswith("jinja2 ")
    assert python.endswith("conversation 0, 1 messages: the text so far changes; it must be appended to")


def test_a_template_with_other_ids(folder):
    faults = faults_with(
        folder, chat_template="{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    )
    assert "has other ids than in training" in faults[0]


def test_no_template_and_another_end(folder):
    assert faults_with(folder, eos_token="</s>") == [
        "tokenizer_config.json: eos_token is '</s>', not '<|end|>': apps would show the token that ends an answer"
    ]
    assert faults_with(folder, chat_template=None)[0] == "tokenizer_config.json: chat_template is no text"


def test_what_javascript_refuses(folder, node):
    own = json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]
    faults = faults_with(folder, chat_template=own.replace(".lstrip()", ".removeprefix(' ')"))
    (refused,) = [fault for fault in faults if fault.startswith(PACKAGE)]
    assert "refuses the template: Cannot call something that is not a function" in refused


def test_node_without_the_package(folder, tmp_path, monkeypatch):
    answer = in_javascript("{{ messages }}", [])
    if answer.not_run.startswith("there is no Node.js"):
        pytest.skip(answer.not_run)
    monkeypatch.delenv("NODE_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    found = check(folder, tiny.tokenizer())
    assert f"finds no {PACKAGE}; `npm install {PACKAGE}` in this folder, or name its node_modules" in found["not_run"]
    assert found["faults"] == []
