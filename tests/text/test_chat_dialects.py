"""Rows as others publish them: read by what they hold, refused by name and line where they cannot be used."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from trl import maybe_extract_prompt

from phi3kit.errors import UserError
from phi3kit.records import Conversation, Message, Preference
from phi3kit.text.chat_files import conversation_row, preference_row, read_conversations, read_preferences
from phi3kit.text.chat_shapes import Dialect

U, A, S = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}
WORSE = {"role": "assistant", "content": "b"}
PLAIN = (Message("user", "q"), Message("assistant", "a"))
FUNCTION = {"name": "tip", "parameters": {"type": "object", "properties": {"bill": {"type": "number"}}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"type": "function", "function": {"name": "tip", "arguments": {"bill": 50}}}


def rows(folder: Path, *rows: Any) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def read(folder: Path, row: Any, **options: Any) -> Conversation:
    (found,) = read_conversations(rows(folder, row), **options)
    return found


def pair(folder: Path, row: Any) -> Preference:
    (found,) = read_preferences(rows(folder, row))
    return found


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"conversations": [{"role": "User", "value": "q"}, {"role": "model", "content": "a"}]},
        {"instruction": "q", "input": "", "output": "a"},
        {"instruction": "q", "input": None, "output": "a", "system": float("nan"), "history": []},
        {"instruction": "", "input": "q", "output": "a"},
        {"prompt": "q", "completion": "a"},
        {"prompt": "q", "response": "a"},
        {"prompt": "q", "completion": [A]},
        {"question": "q", "answer": "a"},
        {"messages": [{**U, "content": [{"type": "text", "text": "q"}]}, A], "prompt": "q"},
        {"messages": [{**U, "name": None, "tool_calls": None}, {**A, "weight": 1, "function_call": None}], "tools": []},
        [U, A],
    ],
)
def test_a_question_and_its_answer(tmp_path: Path, row: Any) -> None:
    assert read(tmp_path, row).messages == PLAIN


def test_what_stands_beside_the_question_is_used(tmp_path: Path) -> None:
    row = {"instruction": "Sum up.", "input": "Text.", "output": "a", "system": "s", "history": [["q", "a"]]}
    assert read(tmp_path, row).messages == (
        Message("system", "s"), *PLAIN, Message("user", "Sum up.\nText."), Message("assistant", "a"),
    )  # fmt: skip
    assert read(tmp_path, {"messages": [S, U, A], "system": "s"}).messages[0] == Message("system", "s")
    with pytest.raises(UserError, match=r"rows.jsonl:1: there are two system prompts"):
        read(tmp_path, {"messages": [S, U, A], "system": "another"})


def test_a_prompt_of_turns_is_not_learned(tmp_path: Path) -> None:
    """TRL's prompt and completion: the loss falls on the completion."""
    talk = read(tmp_path, {"prompt": [U, WORSE, U], "completion": [A]})
    assert [message.learned for message in talk.messages if message.role == "assistant"] == [False, True]
    with pytest.raises(UserError, match=r"prompt ends with a turn of the assistant"):
        read(tmp_path, {"prompt": [U, A], "completion": [A]})


@pytest.mark.parametrize("field", ["weight", "train", "training", "trainable", "loss", "loss_mask", "loss_weight"])
def test_turns_are_taken_out_of_the_loss(tmp_path: Path, field: str) -> None:
    talk = read(tmp_path, {"messages": [U, {**WORSE, field: 0}, U, {**A, field: True}]})
    assert [message.learned for message in talk.messages if message.role == "assistant"] == [False, True]
    assert read(tmp_path, conversation_row(talk)) == Conversation(talk.messages, talk.id)
    with pytest.raises(UserError, match=rf"messages\[1\] has {field} 0.5; 0 and 1 are understood"):
        read(tmp_path, {"messages": [U, {**A, field: 0.5}]})
    with pytest.raises(UserError, match=r"no assistant turn is to be learned \(all have weight 0\)"):
        read(tmp_path, {"messages": [U, {**A, field: 0}]})


@pytest.mark.parametrize("tools", [[TOOL], [FUNCTION], json.dumps([TOOL]), json.dumps([FUNCTION])])
def test_tools_are_declared_on_the_first_system_turn(tmp_path: Path, tools: Any) -> None:
    assert read(tmp_path, {"messages": [U, A], "tools": tools}).messages[0] == Message("system", "", tools=(TOOL,))
    assert read(tmp_path, {"messages": [S, U, A], "tools": tools}).messages[0] == Message("system", "s", tools=(TOOL,))
    own = read(tmp_path, {"messages": [{**S, "tools": tools}, U, A]})  # Phi-4-mini's
    assert own.messages[0] == Message("system", "s", tools=(*(json.loads(tools) if isinstance(tools, str) else tools),))
    assert read(tmp_path, conversation_row(own)).messages == own.messages


def test_calls_and_their_answers(tmp_path: Path) -> None:
    openai = [U, {"role": "assistant", "content": None, "tool_calls": [{"id": "1", **CALL}]},
              {"role": "tool", "tool_call_id": "1", "content": "7.5"}, A]  # fmt: skip
    wanted = (PLAIN[0], Message("assistant", "", tool_calls=({"id": "1", **CALL},)), Message("tool", "7.5"), PLAIN[1])
    talk = read(tmp_path, {"messages": openai})
    assert talk.messages == wanted
    assert read(tmp_path, conversation_row(talk)).messages == wanted
    legacy = [U, {"role": "assistant", "content": None, "function_call": CALL["function"]},
              {"role": "function", "name": "tip", "content": "7.5"}, A]  # fmt: skip
    glaive = [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(CALL["function"])},
              {"from": "observation", "value": "7.5"}, {"from": "gpt", "value": "a"}]  # fmt: skip
    for row in ({"messages": legacy}, {"conversations": glaive, "tools": "[]"}):
        found = read(tmp_path, row).messages
        assert found[1] == Message("assistant", "", tool_calls=(CALL,))
        assert (found[2].role, found[2].content) == ("tool", "7.5")
    with pytest.raises(UserError, match=r"messages\[1\] makes the call"):
        read(tmp_path, {"messages": [U, {"role": "function_call", "content": "[1]"}, A]})
    with pytest.raises(UserError, match=r"messages\[1\] is not JSON"):
        read(tmp_path, {"messages": [U, {"role": "function_call", "content": "tip(50)"}, A]})


def test_reasoning_and_names_travel(tmp_path: Path) -> None:
    talk = read(tmp_path, {"messages": [{**U, "name": "Ann"}, {**A, "reasoning_content": "hm"}]})
    assert talk.messages == (Message("user", "q", name="Ann"), Message("assistant", "a", reasoning="hm"))
    assert read(tmp_path, conversation_row(talk)).messages == talk.messages


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [U, {**A, "content": " "}]}, "turn 1 is an empty answer"),
        ({"messages": [U, {**A, "content": "", "tool_calls": []}]}, "turn 1 is an empty answer"),
        ({"messages": [U, {**A, "train_detail": [{"begin_offset": 0}]}]}, "'train_detail', which cannot be obeyed"),
        ({"messages": [U, {**A, "refusal": "No."}]}, "'refusal', which cannot be obeyed"),
        (
            {"messages": [{**U, "content": [{"type": "text", "text": None}]}, A]},
            r"content\[0\] is .*a part of type text",
        ),
        ({"messages": [{**U, "content": [{"type": "input_audio"}]}, A]}, "a part of type text, or an image's file"),
        ({"messages": [{**U, "content": "half \ud83d"}, A]}, r"not Unicode at character 5 \(\\ud83d"),
        ({"messages": [U, {**A, "mask": 1}]}, "'mask', which cannot be obeyed"),
        ({"messages": [U, {**A, "masked": True}]}, "'masked', which cannot be obeyed"),
        ({"messages": [U, A, U, A], "weights": [0, 1]}, "weights cannot be learned from here"),
        ({"messages": [{**U, "role": "\ud83d"}, A]}, r'has role "\\ud83d"'),
        ({"messages": [U, A], "weight": 0.5}, "weight is 0.5 for the whole row"),
        ({"messages": [U, A], "label": True}, "label says whether one answer is good"),
        ({"messages": [U, A], "videos": ["a.mp4"]}, "videos cannot be learned from"),
        ({"prompt": "q", "completion": "a", "kto_tag": False}, "kto_tag says whether one answer is good"),
        ({"messages": [U, A], "tools": "tip(bill)"}, "tools is not JSON"),
        ({"text": "a"}, "unknown shape"),
        ({"messages": "[]"}, "unknown shape"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_line(tmp_path: Path, row: Any, why: str) -> None:
    with pytest.raises(UserError, match=rf"rows.jsonl:2: .*{why}"):
        read_conversations(rows(tmp_path, {"messages": [U, A]}, row))


def test_fields_that_are_not_used_are_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [{"messages": [U, {**A, "likes": 3}], "score": 1.5, "source": "x", "margin": None, "history": []}] * 3
    read_conversations(rows(tmp_path, *given))
    said = capsys.readouterr().err
    assert said.count("fields that are not used: score (3 rows), source (3 rows), likes of turns (3 rows)") == 1
    read_conversations(rows(tmp_path, {"messages": [U, A], "id": "x", "metadata": {"a": 1}}))
    assert not capsys.readouterr().err


def test_names_of_ones_own(tmp_path: Path) -> None:
    dialect = Dialect({"bot": "assistant"}, {"messages": "dialogue", "role": "who", "content": "said", "label": None})
    turns = [{"who": "user", "said": "q"}, {"who": "bot", "said": "a"}]
    assert read(tmp_path, {"dialogue": turns, "label": 1}, dialect=dialect).messages == PLAIN


@pytest.mark.parametrize(
    ("given", "id", "metadata"),
    [
        ({"id": 0}, "0", {}),
        ({"id": None, "metadata": None}, None, {}),
        ({"metadata": "note"}, None, {"metadata": "note"}),
        ({"metadata": ["a", 1]}, None, {"metadata": ["a", 1]}),
        ({"metadata": {"split": None, "n": float("nan"), "half": "\ud83d"}}, None, {"n": None, "half": "?"}),
        ({"metadata": {"a": 1}, "split": "test"}, None, {"a": 1, "split": "test"}),
        ({"metadata": {"split": "train"}, "split": "test"}, None, {"split": "train"}),
    ],
)
def test_ids_and_metadata_of_any_type(tmp_path: Path, given: dict[str, Any], id: str | None, metadata: Any) -> None:
    talk = read(tmp_path, {"messages": [U, A], **given})
    assert (talk.id, talk.metadata) == (id or f"{tmp_path}/rows.jsonl:1", metadata)


PAIR = Preference((Message("user", "q"),), (Message("assistant", "a"),), (Message("assistant", "b"),))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": [U, A], "rejected": [U, WORSE]},
        {"prompt": "q", "chosen": [{**U, "content": "q\n"}, A], "rejected": [{**U, "content": " q"}, WORSE]},
        {"chosen": [U, A], "rejected": [U, WORSE], "prompt_id": "x"},
        {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"},
         "rejected": {"from": "gpt", "value": "b"}},
        {"messages": [U], "chosen": "a", "rejected": "b"},
        {"messages": [U, A], "chosen": [U, A], "rejected": [U, WORSE]},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"question": "q", "chosen": "a", "rejected": "b"},
        {"input": {"messages": [U]}, "preferred_output": [A], "non_preferred_output": [WORSE]},
    ],
)  # fmt: skip
def test_a_prompt_and_its_answers(tmp_path: Path, row: Any) -> None:
    found = pair(tmp_path, row)
    assert tuple(message.content.strip() for message in found.prompt) == ("q",)
    assert (found.chosen, found.rejected) == (PAIR.chosen, PAIR.rejected)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": [S, U, A], "rejected": [S, U, WORSE]},
        {"prompt": [U], "chosen": [S, U, A], "rejected": [S, U, WORSE]},
        {"prompt": [S, U], "chosen": [U, A], "rejected": [U, WORSE]},
        {"prompt": "q", "chosen": [S, U, A], "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "system": "s"},
        {"chosen": [S, U, A], "rejected": [S, U, WORSE]},
    ],
)
def test_a_system_turn_stands_once_in_front(tmp_path: Path, row: Any) -> None:
    found = pair(tmp_path, row)
    assert found.prompt == (Message("system", "s"), Message("user", "q"))
    assert (found.chosen, found.rejected) == (PAIR.chosen, PAIR.rejected)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "q", "chosen": [{**U, "content": "?"}, A], "rejected": "b"}, "last question is not the prompt"),
        ({"prompt": "q", "chosen": [S, U, A], "rejected": [{**S, "content": "t"}, U, WORSE]}, "different prompts"),
        ({"prompt": [U, A], "chosen": "a", "rejected": "b"}, "prompt ends with a turn of the assistant"),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, "transcripts"),
        ({"chosen": "a", "rejected": "b"}, "texts and there is no prompt"),
        ({"chosen": [U, A], "rejected": [S, WORSE]}, "begin with no prompt that both have"),
        ({"prompt": "q", "completion": "a", "label": False}, "label says whether one answer is good"),
        ({"prompt": "q", "chosen": " ", "rejected": "b"}, "chosen is an empty answer"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "chosen and rejected are the same"),
        ({"chosen": [U, A], "rejected": [U, A]}, "chosen and rejected are the same"),
    ],
)
def test_pairs_that_cannot_be_used(tmp_path: Path, row: Any, why: str) -> None:
    with pytest.raises(UserError, match=rf"rows.jsonl:1: .*{why}"):
        pair(tmp_path, row)


@pytest.mark.parametrize("before", [[U], [S, U], [U, A, U], [S, U, A, {**U, "content": "r"}]])
def test_an_implicit_prompt_is_what_trl_takes_for_it(tmp_path: Path, before: list[Any]) -> None:
    row = {"chosen": [*before, A], "rejected": [*before, WORSE]}
    wanted, found = maybe_extract_prompt(row), pair(tmp_path, row)
    for part in ("prompt", "chosen", "rejected"):
        told = [{"role": message.role, "content": message.content} for message in getattr(found, part)]
        assert told == wanted[part]


def test_images_stand_where_rows_say(tmp_path: Path) -> None:
    part = {"type": "image_url", "image_url": {"url": "a.png"}}
    shown = {**U, "content": [part, {"type": "text", "text": "q"}]}
    published = {"messages": [{**U, "content": "<image>q"}, A], "images": ["a.png"]}  # LLaMA-Factory's
    bare = {
        "conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}],
        "image": "a.png",
    }
    trl = {"messages": [{**U, "content": [{"type": "image"}, {"type": "text", "text": "q"}]}, A], "images": ["a.png"]}
    for row in ({"messages": [shown, A]}, published, bare, trl, {"messages": [U, A], "images": ["a.png"]}):
        talk = read(tmp_path, row)
        assert (talk.messages[0].content, talk.images) == ("<|image_1|>\nq", ("a.png",))
    for image in ("https://x.y/a.png", "data:image/png;base64,AA", {"bytes": "x", "path": None}):
        with pytest.raises(UserError, match=r"rows.jsonl:1: "):
            read(tmp_path, {"messages": [U, A], "images": [image]})


def test_any_row_is_read_or_refused_and_what_is_read_can_be_written(tmp_path: Path) -> None:
    """Fields of all kinds at random: never another exception, and never a row that does not survive its file."""
    draw = random.Random(0)
    half, call = "\ud83d", {"name": "t", "arguments": {"x": None}}
    values = [None, 0, 1, 1.5, "", "x", "[]", "{}", [], {}, [None], [[]], [{}], [1], {"a": 1}, True, float("nan"), [U],
              [U, A], [S, U, A], A, half, [U, WORSE], [TOOL], call, [["a", "b"]], [{"type": "image"}],
              {"messages": [U]}, 10**400, [half]]  # fmt: skip
    of_rows = [
        *("messages", "conversations", "prompt", "completion", "response", "instruction", "input", "output", "context"),
        *("system", "history", "tools", "functions", "images", "image", "id", "metadata", "split", "weight", "label"),
        *("chosen", "rejected", "source"),
    ]
    of_turns = [
        "role",
        "from",
        "content",
        "value",
        "weight",
        "train",
        "tool_calls",
        "function_call",
        "name",
        "tools",
        "id",
    ]
    of_turns += ["reasoning_content"]

    def turn() -> dict[str, Any]:
        given = dict(draw.choice([U, A, S, {"role": "tool", "content": "t"}]))
        return given | {draw.choice(of_turns): draw.choice(values) for _ in range(draw.randint(0, 2))}

    def row() -> Any:
        given: dict[str, Any] = {"messages": [turn() for _ in range(draw.randint(1, 4))]} if draw.random() < 0.6 else {}
        if draw.random() < 0.4:
            given |= {"prompt": draw.choice(["q", [U], [turn()]]), "chosen": "a", "rejected": [turn(), turn()]}
        more = {draw.choice(of_rows): draw.choice(values) for _ in range(draw.randint(0, 2))}
        return draw.choice(values) if draw.random() < 0.05 else given | more

    kept = 0
    for _ in range(1500):
        file = rows(tmp_path, row())
        for reader, writer in ((read_conversations, conversation_row), (read_preferences, preference_row)):
            try:
                found = reader(file)
            except UserError:
                continue
            kept += 1
            text = json.dumps(writer(found[0]), ensure_ascii=False, allow_nan=False)  # type: ignore[operator]
            (tmp_path / "again.jsonl").write_text(text, encoding="utf-8")
            assert reader(tmp_path / "again.jsonl") == found
    assert kept > 50
