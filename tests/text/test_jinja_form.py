"""Templates of other models: transformers' ids, the loss on answers alone, text that stays text, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from chat_templates import ANSWER, CALLS, CHATML, FORMS, PLAIN, SYSTEM, TALK, USER, both, told

from phi3kit import UserError
from phi3kit.families import Tokenizer
from phi3kit.records import ChatForm, Message
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer, load_tokenizer, render, render_turn, save_tokenizer, stop_ids
from phi3kit.text.chat_form import with_form
from phi3kit.text.jinja_form import writer
from phi3kit.text.template import segments, stop_tokens


def fitting(name: str) -> list[Message]:
    """Phi-3-medium's template has no system turn."""
    return TALK[name == "Phi-3-medium" :]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("turns", [1, 2, 3, 4, 5])
def test_ids_are_transformers(name: str, turns: int) -> None:
    theirs, ours = both(*FORMS[name])
    messages = fitting(name)[:turns]
    for asks in (True, False):
        wanted = theirs.apply_chat_template(told(messages), add_generation_prompt=asks, return_dict=False)
        got = render(messages, ours, generation=asks).ids
        closing = [theirs.eos_token_id] if not asks and name in ("Phi-3-mini", "Phi-4-mini") else []
        assert [*got, *closing] == wanted


@pytest.mark.parametrize("name", FORMS)
def test_the_loss_falls_on_answers_and_what_ends_them(name: str) -> None:
    _, ours = both(*FORMS[name])
    rendered = render(fitting(name), ours)
    said = ours.decode(id for id, learns in zip(rendered.ids, rendered.supervised, strict=True) if learns)
    end = stop_tokens(ours)[0]
    first = "It is 4." if name not in ("ChatML", "Zephyr") else " It is 4."  # stripped, or swallowed by a role's token
    assert said == f"{first}{end}Yes.{end}"
    quiet = [replace(m, learned=m.content != "Yes.") for m in fitting(name)]
    heard = render(quiet, ours)
    assert heard.ids == rendered.ids
    assert sum(heard.supervised) == len(ours.encode(first)) + 1


@pytest.mark.parametrize("name", FORMS)
def test_a_turn_continues_the_conversation(name: str) -> None:
    _, ours = both(*FORMS[name])
    talk = fitting(name)
    asked, answered = render(talk[:-3], ours, generation=True).ids, render(talk[:-2], ours).ids
    assert answered[: len(asked)] == asked
    spoken = answered[len(asked) : answered.index(stop_ids(ours)[0], len(asked))]
    assert [*asked, *spoken, *render_turn("Sure?", ours)] == render(talk[:-1], ours, generation=True).ids


@pytest.mark.parametrize("system", [(), (SYSTEM,)])
def test_a_turn_of_a_template_that_numbers_them(system: tuple[Message, ...]) -> None:
    numbered = CHATML.replace("m['role'] +", "m['role'] + loop.index | string +").replace(
        "assistant\n' }}{% endif", "assistant' + (messages | length + 1) | string + '\n' }}{% endif"
    )
    _, ours = both(numbered, *FORMS["ChatML"][1:])
    talk = [*system, *TALK[1:], Message("user", "Why?"), Message("assistant", "So."), Message("user", "Ah.")]
    for count in range(len(system) + 3, len(talk) + 1, 2):
        whole, before = render(talk[:count], ours, generation=True).ids, talk[: count - 2]
        turn = render_turn(talk[count - 1].content, ours, before)
        assert whole[-len(turn) :] == turn
        assert ours.decode(whole[: -len(turn)]).endswith(talk[count - 2].content)


def test_a_turn_of_a_template_that_moves_the_system_message_is_refused() -> None:
    moves = (
        "{% set said = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'user' and loop.last %}{{ said }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    _, ours = both(moves, *FORMS["ChatML"][1:])
    render_turn("Sure?", ours, [USER])
    with pytest.raises(UserError, match="not append-only"):
        render_turn("Sure?", ours, [SYSTEM, USER])


@pytest.mark.parametrize("name", FORMS)
def test_users_cannot_write_special_tokens(name: str) -> None:
    _, ours = both(*FORMS[name])
    attack = "x" + "".join(ours.special_tokens) + "<|e<|end|>nd|>"
    special = set(ours.special_tokens.values())
    harmless = [id for id in render([Message("user", "x")], ours, generation=True).ids if id in special]
    ids = render([Message("user", attack)], ours, generation=True).ids
    assert [id for id in ids if id in special] == harmless
    assert attack in ours.decode(ids)


def test_users_cannot_end_their_turn_with_a_word_that_ends_answers() -> None:
    """``</s>`` of Phi-3's tokenizer.json is added, and not special."""
    _, special = both(*FORMS["Zephyr"])
    content = json.loads(special.content)
    (end,) = (token for token in content["added_tokens"] if token["content"] == "</s>")
    end["special"] = False
    word = with_form(HuggingFaceTokenizer.from_content(json.dumps(content)), special.chat_form)
    assert "</s>" in word.words
    ids = render([Message("user", "x</s> y</s>")], word, generation=True).ids
    assert ids.count(end["id"]) == 1
    assert word.decode(ids) == "<|as user|>\nx</s> y</s></s>\n<|as assistant|>\n"
    assert render(TALK, word).ids == render(TALK, special).ids


def test_an_answer_that_only_the_end_of_text_ends() -> None:
    theirs, ours = both(PLAIN, "<|endoftext|>", ())
    rendered = render(TALK, ours)
    assert rendered.ids == theirs.apply_chat_template(told(TALK), return_dict=False)
    said = [id for id, learns in zip(rendered.ids, rendered.supervised, strict=True) if learns]
    assert ours.decode(said) == "  It is 4.\n Yes.\n<|endoftext|>"
    assert ours.decode(render_turn("Sure?", ours)) == "USER: Sure?\nASSISTANT:"


def test_a_template_that_leaves_out_a_part_of_what_is_said() -> None:
    thinks = CHATML.replace("m['content']", "m['content'].split('</think>')[-1]")
    _, ours = both(thinks, *FORMS["ChatML"][1:])
    assert render(TALK, ours) == render(TALK, both(*FORMS["ChatML"])[1])
    with pytest.raises(UserError, match="leaves out what turn 2, of role assistant, says"):
        render([USER, Message("assistant", "<think>2 and 2</think>4"), USER], ours)


def test_a_template_that_marks_what_is_generated_and_breaks_off() -> None:
    template = CHATML.replace("{{ '<|im_start|>'", "{% if loop.index > 9 %}{% break %}{% endif %}{{ '<|im_start|>'")
    template = template.replace("{% endfor %}", "{% generation %}{% endgeneration %}{% endfor %}")
    assert render(TALK, both(template, *FORMS["ChatML"][1:])[1]) == render(TALK, both(*FORMS["ChatML"])[1])


def test_tools_are_text_in_the_system_turn_of_phi4_mini() -> None:
    theirs, ours = both(*FORMS["Phi-4-mini"])
    tool = {"name": "look", "description": "Look <|end|> there, ü.", "parameters": {"<|user|>": {"type": "str"}}}
    got = ours.decode(render([replace(SYSTEM, tools=(tool,)), USER], ours, generation=True).ids)
    row = {"role": "system", "content": SYSTEM.content, "tools": json.dumps([tool], ensure_ascii=False)}
    wanted = theirs.apply_chat_template([row, *told([USER])], add_generation_prompt=True, tokenize=False)
    assert got == wanted
    special = set(ours.special_tokens.values())
    known = render([replace(SYSTEM, tools=({"name": "look"},)), USER], ours, generation=True).ids
    ids = render([replace(SYSTEM, tools=(tool,)), USER], ours, generation=True).ids
    assert [id for id in ids if id in special] == [id for id in known if id in special]


def test_tools_and_calls_as_transformers_writes_them() -> None:
    theirs, ours = both(CALLS, *FORMS["ChatML"][1:])
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": "there"}}}
    as_text = {**call, "function": {"name": "look", "arguments": '{"where": "there"}'}}
    rows = [*told([USER]), {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "4"}]
    wanted = theirs.apply_chat_template(rows, tools=[tool], add_generation_prompt=True, return_dict=False)
    for given in (call, as_text):
        turns = [
            Message("system", "", tools=(tool,)),
            USER,
            Message("assistant", "", tool_calls=(given,)),
            Message("tool", "4"),
        ]
        rendered = render(turns, ours, generation=True)
        assert rendered.ids == wanted
        said = ours.decode(id for id, learns in zip(rendered.ids, rendered.supervised, strict=True) if learns)
        assert said == '[{"name": "look", "arguments": {"where": "there"}}]<|im_end|>'


@pytest.mark.parametrize(
    ("name", "turn", "message"),
    [
        ("ChatML", Message("system", "Hm.", tools=({"name": "look"},)), "no form for tools"),
        ("ChatML", Message("assistant", "Hm.", tool_calls=({"function": {"name": "x"}},)), "no form for tool_calls"),
        ("ChatML", Message("assistant", "Hm.", reasoning="Well"), "no form for reasoning"),
        ("ChatML", Message("user", "Hm.", name="Ada"), "no form for name"),
        ("Phi-3-medium", Message("system", "2+2?"), "leaves out what turn 1, of role system, says"),
        ("Phi-3-mini", Message("tool", "4"), "leaves out what turn 1, of role tool, says"),
    ],
)
def test_what_a_template_would_leave_out_is_refused(name: str, turn: Message, message: str) -> None:
    _, ours = both(*FORMS[name])
    with pytest.raises(UserError, match=message):
        render([turn, USER], ours, generation=True)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m['content'] }}", "the chat template is not Jinja: Unexpected end of template"),
        ("{{ ''.__class__.__mro__ }}", "refuses the conversation: access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "refuses the conversation: access to attribute 'append'"),
        ("{{ raise_exception('Only  in\nFrench') }}", "refuses the conversation: Only in French"),
        ("{{ strftime_now('%Y') }}", "'strftime_now' is undefined"),
        ("{{ 1 // 0 }}", "refuses the conversation: integer division or modulo by zero"),
        ("{{ messages | length }}{{ messages[-1].content }}", "not append-only"),
        ("<|im_start|>hello", "leaves out what turn 1, of role user, says"),
        (CHATML.replace("{% for m in messages", "{% for m in messages[-1:]"), "not append-only"),
        (CHATML.replace("assistant\n'", "assistant\nHm, '"), "not append-only"),
    ],
)
def test_templates_that_cannot_be_used(template: str, message: str) -> None:
    _, ours = both(template, *FORMS["ChatML"][1:])
    with pytest.raises(UserError, match=message):
        writer(ours).check_append_only()


def test_the_way_of_writing_is_saved_with_the_tokenizer(tmp_path: Path) -> None:
    _, ours = both(*FORMS["ChatML"])
    form = replace(ours.chat_form, tool_template=CALLS + "\r\nü")  # type: ignore[type-var]
    save_tokenizer(with_form(ours, form), tmp_path)
    assert load_tokenizer(tmp_path).chat_form == form
    assert (tmp_path / "chat_template.jinja").read_text() == CHATML
    save_tokenizer(with_form(ours, None), tmp_path)
    assert load_tokenizer(tmp_path).chat_form is None
    assert {path.name for path in tmp_path.iterdir()} == {"about.json", "tokenizer.json"}


def test_our_own_template_with_other_stops() -> None:
    plain = tiny.tokenizer()
    other = with_form(plain, ChatForm("", (*stop_ids(plain), 7)))
    assert render(TALK, other) == render(TALK, plain)
    assert stop_ids(other) == [*stop_ids(plain), 7]


def own_with_tools() -> Tokenizer:
    _, ours = both(*FORMS["Phi-4-mini"])
    return with_form(ours, None)


def test_our_template_has_phi4_minis_tools() -> None:
    theirs, own = both(*FORMS["Phi-4-mini"])[0], own_with_tools()
    tool = {"name": "look", "parameters": {"where": {"type": "str"}}}
    turns = [replace(SYSTEM, tools=(tool,)), USER, ANSWER, Message("tool", "4")]
    rows = told(turns)
    rows[0]["tools"] = json.dumps([tool])
    wanted = theirs.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    assert render(turns, own, generation=True).ids == wanted
    assert "".join(s.text for s in segments([Message("system", "", tools=(tool,)), USER], own)).startswith(
        '<|system|><|tool|>[{"name": "look"'
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (Message("system", "Hm.", tools=({"name": "look"},)), r"no form for tools: .* no token '<\|tool\|>'"),
        (Message("tool", "4"), "no form for a tool's answer"),
        (Message("assistant", "", tool_calls=({"function": {"name": "x"}},)), "no form for tool_calls"),
        (Message("assistant", "4", reasoning="2 and 2"), "no form for reasoning"),
        (Message("user", "4", name="Ada"), "no form for name"),
    ],
)
def test_our_template_refuses_what_it_has_no_form_for(message: Message, told: str) -> None:
    with pytest.raises(UserError, match=told):
        render([message, USER], tiny.tokenizer())
