"""A tokenizer's folder: a net goes on writing conversations as it was taught, whichever folder its tokenizer is in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chat_templates import CHATML, FORMS, both

from phi3kit import UserError
from phi3kit.records import ChatForm
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer, save_tokenizer, tokenizer_going_on
from phi3kit.text.chat_form import with_form
from phi3kit.text.template import end_of_text_id


def test_a_run_hands_its_way_of_writing_on(tmp_path: Path) -> None:
    taught = both(*FORMS["ChatML"])[1]
    save_tokenizer(taught, tmp_path / "run" / "tokenizer")
    save_tokenizer(with_form(taught, None), tmp_path / "data")
    save_tokenizer(with_form(taught, ChatForm(CHATML + " ", (1,))), tmp_path / "other")
    before = tmp_path / "run" / "tokenizer"
    assert tokenizer_going_on(tmp_path / "data", before).chat_form == taught.chat_form
    assert tokenizer_going_on(tmp_path / "data", None).chat_form is None
    assert tokenizer_going_on(tmp_path / "other", before).chat_form == ChatForm(CHATML + " ", (1,))
    assert tokenizer_going_on(before, before).chat_form == taught.chat_form


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tiny.tokenizer(300), tmp_path / "run" / "tokenizer")
    save_tokenizer(tiny.tokenizer(310), tmp_path / "data")
    with pytest.raises(UserError, match=r"data is not the tokenizer that .*run was trained with; use .*run/tokenizer"):
        tokenizer_going_on(tmp_path / "data", tmp_path / "run" / "tokenizer")


def test_what_ends_a_text_where_there_is_no_end_of_text() -> None:
    own = tiny.tokenizer()
    assert end_of_text_id(own) == own.special_tokens["<|endoftext|>"]
    content = json.loads(both(*FORMS["ChatML"])[1].content)
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != "<|endoftext|>"]
    bare = HuggingFaceTokenizer.from_content(json.dumps(content))
    named = ChatForm(CHATML, (1,), {"pad_token": "<|none|>", "eos_token": "<|im_end|>"})
    assert end_of_text_id(with_form(bare, named)) == bare.special_tokens["<|im_end|>"]
    with pytest.raises(UserError, match=r"has no special token '<\|endoftext\|>'"):
        end_of_text_id(bare)
