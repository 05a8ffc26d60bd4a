"""What a public folder says of conversations is compared with what we assume, used where it differs, and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_templates import CALLS, CHATML, FORMS, JUNE, MEDIUM, PHI4_MINI, TALK, both, told
from public_checkpoints import BASE, same_files, write_checkpoint
from transformers import AutoTokenizer

from phi3kit import UserError
from phi3kit.checkpoints import convert
from phi3kit.checkpoints.door import compare_templates
from phi3kit.records import Message
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer, load_tokenizer, render, save_tokenizer, stop_ids
from phi3kit.text.chat_form import with_form

MINI = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"


def folder_of(path: Path, name: str, **config: Any) -> tuple[Path, HuggingFaceTokenizer]:
    """A public folder's files for text, as transformers saves them."""
    theirs, ours = both(*FORMS[name])
    theirs.save_pretrained(path)
    (path / "generation_config.json").write_text(json.dumps(config or {"eos_token_id": stop_ids(ours)}))
    return path, with_form(ours, None)


@pytest.mark.parametrize("name", FORMS)
def test_ours_where_it_is_the_same_and_theirs_where_not(tmp_path: Path, name: str) -> None:
    folder, plain = folder_of(tmp_path, name)
    found = compare_templates(folder, plain)
    tokenizer, theirs = with_form(plain, found.form), AutoTokenizer.from_pretrained(folder)
    if name in ("Phi-3-mini", "Phi-4-mini"):
        assert found.form is None
        assert found.lines == ["chat template: the same as ours for 2 conversations"]
    else:
        assert found.form is not None
        assert found.lines[0].startswith("chat template: the folder's own, <|")
        assert set(found.form.stops) == set(both(*FORMS[name])[1].chat_form.stops)
    talk = TALK[name == "Phi-3-medium" : -1]
    wanted = theirs.apply_chat_template(told(talk), add_generation_prompt=True, return_dict=False)
    assert render(talk, tokenizer, generation=True).ids == wanted


def test_what_is_said_of_a_template_without_system_turns(tmp_path: Path) -> None:
    assert compare_templates(*folder_of(tmp_path, "Phi-3-medium")).lines == [
        "chat template: the folder's own, <|endoftext|><|user|>⏎…<|end|>⏎<|assistant|>⏎…<|end|>⏎",
        "answers end with <|end|> <|endoftext|>",
        "it has no form for a system turn: conversations with one are refused",
    ]


@pytest.mark.parametrize("place", ["chat_template.jinja", "text", "list", "chat_template.json", "folder"])
def test_where_templates_are_found(tmp_path: Path, place: str) -> None:
    folder, plain = folder_of(tmp_path, "ChatML")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").unlink()
    if place == "chat_template.jinja":  # goes before what tokenizer_config.json says
        (folder / place).write_text(CHATML)
        config["chat_template"] = JUNE
    elif place == "text":
        config["chat_template"] = CHATML
    elif place == "list":
        config["chat_template"] = [{"name": "tool_use", "template": CALLS}, {"name": "default", "template": CHATML}]
    elif place == "chat_template.json":
        (folder / place).write_text(json.dumps({"chat_template": CHATML}))
    else:
        (folder / "chat_template.jinja").write_text(CHATML)
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(CALLS)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config), encoding="utf-8" if place in ("list", "folder") else "utf-8-sig"
    )
    form = compare_templates(folder, plain).form
    assert form is not None
    assert form.template == CHATML
    assert form.tool_template == (CALLS if place in ("list", "folder") else "")
    if place in ("list", "folder"):
        tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
        wanted = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            told(TALK[1:2]), tools=[tool], chat_template=CALLS, return_dict=False
        )
        assert render([Message("system", "", tools=(tool,)), TALK[1]], with_form(plain, form)).ids == wanted


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ({"generation_config.json": 7}, ["<|im_end|>", "<|end|>"]),
        ({"generation_config.json": [7, 999_999]}, ["<|im_end|>", "<|end|>"]),
        ({"config.json": [7]}, ["<|im_end|>", "<|end|>"]),
        ({"config.json": 3}, ["<|im_end|>"]),  # a letter: the file is of another vocabulary
        ({}, ["<|im_end|>"]),
    ],
)
def test_stops_and_what_closes_an_answer(tmp_path: Path, files: dict[str, Any], names: list[str]) -> None:
    folder, plain = folder_of(tmp_path, "ChatML")
    (folder / "generation_config.json").unlink()
    for file, ids in files.items():
        seven = lambda id: plain.special_tokens["<|end|>"] if id == 7 else id  # noqa: E731
        (folder / file).write_text(
            json.dumps({"eos_token_id": [*map(seven, ids)] if isinstance(ids, list) else seven(ids)})
        )
    form = compare_templates(folder, plain).form
    assert form is not None
    assert [plain.decode([id]) for id in form.stops] == names


def test_other_stops_beside_our_template(tmp_path: Path) -> None:
    theirs, ours = both(JUNE, "<|endoftext|>", ("</s>",))
    theirs.save_pretrained(tmp_path)
    end, other = (ours.special_tokens[name] for name in ("<|end|>", "</s>"))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [other, end]}))
    form = compare_templates(tmp_path, with_form(ours, None)).form
    assert form is not None
    assert (form.template, form.stops) == ("", (*stop_ids(with_form(ours, None)), other))


def test_a_processor_puts_the_opening_token_in_front(tmp_path: Path) -> None:
    """Phi-3-vision's template has no ``<s>``, its tokenizer.json has."""
    if not (file := MINI / "phi-3-vision" / "tokenizer.json").is_file():
        pytest.skip(f"{file} is not there")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((MINI / "phi-3-vision" / name).read_bytes())
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert compare_templates(tmp_path, HuggingFaceTokenizer(str(file))).form is None


@pytest.mark.parametrize(("model", "own"), [("phi-3-mini", False), ("phi-3-medium", True)])
def test_released_files(tmp_path: Path, model: str, own: bool) -> None:
    if not (MINI / model / "tokenizer_config.json").is_file():
        pytest.skip(f"{MINI / model} is not there (a licence question: the project ships no tokenizer)")
    (tmp_path / "tokenizer.json").write_bytes((MINI / "phi-3-mini" / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_bytes((MINI / model / "tokenizer_config.json").read_bytes())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [32000, 32001, 32007]}')
    plain = HuggingFaceTokenizer(str(tmp_path / "tokenizer.json"))
    found = compare_templates(tmp_path, plain)
    assert (found.form is not None) is own
    tokenizer = with_form(plain, found.form)
    assert stop_ids(tokenizer) == ([32007, 32000, 32001])
    assert render([Message("user", "Hello")], tokenizer, generation=True).ids == [32010, 15043, 32007, 32001]


def test_aprils_phi3_mini_opens_with_s_by_its_template(tmp_path: Path) -> None:
    if not (file := MINI / "phi-3-mini" / "tokenizer.json").is_file():
        pytest.skip(f"{file} is not there (a licence question: the project ships no tokenizer)")
    (tmp_path / "tokenizer.json").write_text(
        file.read_text("utf-8").replace('"rstrip": true', '"rstrip": false'), "utf-8"
    )
    config = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "chat_template": MEDIUM}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    plain = HuggingFaceTokenizer(str(tmp_path / "tokenizer.json"))
    tokenizer = with_form(plain, compare_templates(tmp_path, plain).form)
    hello = [
        1,
        32010,
        29871,
        13,
        10994,
        32007,
        29871,
        13,
        32001,
        29871,
        13,
    ]  # spec: golden ids of April's mini, <s> first
    assert render([Message("user", "Hello")], tokenizer, generation=True).ids == hello
    answered = render([Message("user", "Hello"), Message("assistant", "Hello")], tokenizer)
    assert answered.ids == [*hello, 10994, 32007, 29871, 13]
    assert [i for i, learns in enumerate(answered.supervised) if learns] == [11, 12]


def checkpoint(path: Path, name: str = "ChatML", **config: Any) -> Path:
    public = write_checkpoint(path, BASE | {"vocab_size": 520})
    folder_of(public, name, **config)
    return public


def trained_on(run: Path, out: Path, own: bool = False) -> Path:
    """A run that went on from another."""
    out.mkdir()
    (out / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    section = yaml.safe_load((run / "config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump({**section, "start_from": str(run)}))
    tokenizer = load_tokenizer(run / "tokenizer")
    save_tokenizer(with_form(tokenizer, None if own else tokenizer.chat_form), out / "tokenizer")
    return out


def test_there_and_back_with_a_template_of_its_own(tmp_path: Path) -> None:
    public = checkpoint(tmp_path / "public")
    (public / "additional_chat_templates").mkdir()
    (public / "additional_chat_templates" / "tool_use.jinja").write_text(CALLS)
    lines = convert(public, tmp_path / "run")
    assert "answers end with <|im_end|>" in lines
    assert not any(line.startswith("left behind") for line in lines)
    trained_on(tmp_path / "run", tmp_path / "trained")
    for run in ("run", "trained"):
        convert(tmp_path / run, tmp_path / f"{run}-back")
        assert same_files(public, tmp_path / f"{run}-back")
        more = tmp_path / f"{run}-back" / "additional_chat_templates" / "tool_use.jinja"
        assert more.read_text() == CALLS


def test_what_is_written_back_is_what_was_trained_with(tmp_path: Path) -> None:
    """A run of a ChatML folder from before templates were compared: converted as ever, trained with ours."""
    public = checkpoint(tmp_path / "public")
    convert(public, tmp_path / "run")
    tokenizer = load_tokenizer(tmp_path / "run" / "tokenizer")
    save_tokenizer(with_form(tokenizer, None), tmp_path / "run" / "tokenizer")
    convert(tmp_path / "run", tmp_path / "untrained-back")
    assert same_files(public, tmp_path / "untrained-back")
    trained_on(tmp_path / "run", tmp_path / "trained", own=True)
    convert(tmp_path / "trained", tmp_path / "back")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "back")
    wanted = theirs.apply_chat_template(told(TALK), return_dict=False)
    assert render(TALK, with_form(tokenizer, None)).ids == wanted
    stops = json.loads((tmp_path / "back" / "generation_config.json").read_text())["eos_token_id"]
    assert stops == sorted(stop_ids(with_form(tokenizer, None)))


@pytest.mark.parametrize("more", ["", CALLS])
def test_a_run_without_its_folder_writes_the_template_too(tmp_path: Path, more: str) -> None:
    public = checkpoint(tmp_path / "public")
    if more:
        (public / "additional_chat_templates").mkdir()
        (public / "additional_chat_templates" / "tool_use.jinja").write_text(more)
    convert(public, tmp_path / "run")
    trained_on(tmp_path / "run", tmp_path / "trained")
    recipe = yaml.safe_load((tmp_path / "trained" / "config.yaml").read_text())
    recipe.pop("start_from")
    (tmp_path / "trained" / "config.yaml").write_text(yaml.safe_dump(recipe))
    convert(tmp_path / "trained", tmp_path / "back")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "back")
    tokenizer = load_tokenizer(tmp_path / "trained" / "tokenizer")
    assert theirs.eos_token == "<|im_end|>"
    assert theirs.apply_chat_template(told(TALK), return_dict=False) == render(TALK, tokenizer).ids
    assert compare_templates(tmp_path / "back", with_form(tokenizer, None)).form == tokenizer.chat_form
    assert json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"] == stop_ids(tokenizer)[0]


def test_our_template_with_tools_is_written_for_transformers(tmp_path: Path) -> None:
    public = checkpoint(tmp_path / "public", "Phi-4-mini")
    convert(public, tmp_path / "run")
    trained_on(tmp_path / "run", tmp_path / "trained")
    recipe = yaml.safe_load((tmp_path / "trained" / "config.yaml").read_text())
    recipe.pop("start_from")
    (tmp_path / "trained" / "config.yaml").write_text(yaml.safe_dump(recipe))
    convert(tmp_path / "trained", tmp_path / "back")
    theirs, tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back"), load_tokenizer(tmp_path / "run" / "tokenizer")
    tool = {"name": "look", "parameters": {"where": {"type": "str"}}}
    turns = [Message("system", "Be brief.", tools=(tool,)), *TALK[1:], Message("tool", "4")]
    rows = told(turns)
    rows[0]["tools"] = json.dumps([tool])
    assert theirs.apply_chat_template(rows, return_dict=False) == render(turns, tokenizer).ids


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("chat_template.jinja", "{% for", "the chat template is not Jinja"),
        ("chat_template.jinja", "Hello!", "leaves out what turn 1"),
        ("chat_template.jinja", CHATML.replace("{% for m in messages", "{% for m in messages[-1:]"), "not append-only"),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("generation_config.json", "[1]", "generation_config.json is not a JSON object"),
    ],
)
def test_refused_before_any_work(tmp_path: Path, file: str, content: str, message: str) -> None:
    public = checkpoint(tmp_path / "public")
    (public / file).write_text(content)
    with pytest.raises(UserError, match=message):
        convert(public, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folders_without_a_template(tmp_path: Path) -> None:
    assert compare_templates(tmp_path, tiny.tokenizer()).lines == ["chat template: none in the folder; ours is used"]
    bare = json.loads(tiny.tokenizer().content)
    bare["added_tokens"] = []
    found = compare_templates(tmp_path, HuggingFaceTokenizer.from_content(json.dumps(bare)))
    assert found.lines == ["chat template: none, and the tokenizer has no <|end|> for ours; it cannot chat"]


def test_a_phi4_mini_folder_whose_template_ignores_tools(tmp_path: Path) -> None:
    """Our template has a form for tools that this one has not: what it leaves out is refused."""
    folder, plain = folder_of(tmp_path, "Phi-4-mini")
    (folder / "chat_template.jinja").write_text(PHI4_MINI.replace("'tools' in m", "false"))
    form = compare_templates(folder, plain).form
    assert form is not None
    with pytest.raises(UserError, match="no form for tools"):
        render([Message("system", "Hm.", tools=({"name": "look"},)), TALK[1]], with_form(plain, form))
