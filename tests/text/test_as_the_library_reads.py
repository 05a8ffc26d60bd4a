"""Ids equal those of the `tokenizers` library, for texts and for rendered conversations, in files of every shape."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizer_shapes import ROLES, TEXTS, merges_as_strings, shapes, with_words
from tokenizers import AddedToken

from phi3kit.errors import UserError
from phi3kit.records import Message
from phi3kit.text import HuggingFaceTokenizer, render

SHAPES = shapes()
WORDS = {
    "none": (),
    "as add_tokens adds them": ("<think>", "zwitterion", "the", "an"),
    "new ones": ("<think>", "zwitterion", "\u00e9t\u00e9"),
    "with flags": (
        AddedToken("<think>", normalized=False, rstrip=True, lstrip=True),
        AddedToken("zwitterion", normalized=False, single_word=True),
        AddedToken("the", normalized=True, single_word=True),
    ),
}


def pair(shape: str, words: str) -> tuple[HuggingFaceTokenizer, tokenizers.Tokenizer]:
    """Ours, and the library's, which takes special tokens in text for text."""
    content = with_words(tokenizers.Tokenizer.from_str(SHAPES[shape].to_str()), *WORDS[words])
    theirs = tokenizers.Tokenizer.from_str(content)
    return HuggingFaceTokenizer.from_content(content), theirs


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_texts(shape, words):
    ours, theirs = pair(shape, words)
    theirs.encode_special_tokens = True
    wanted = [theirs.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert [ours.encode(text) for text in TEXTS] == wanted
    assert ours.encode_batch(TEXTS) == wanted
    assert not {id for ids in wanted for id in ids} & set(ours.special_tokens.values())


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rendered_conversations(shape, words):
    ours, theirs = pair(shape, words)
    for text in (text for text in TEXTS if "<|" not in text):
        said = ("system", text), ("user", text), ("assistant", f"{text}."), ("user", "a")
        messages = [Message(role, content) for role, content in said]
        written = "".join(f"<|{m.role}|>\n{m.content}<|end|>\n" for m in messages) + "<|assistant|>\n"
        assert render(messages, ours, generation=True).ids == theirs.encode(written, add_special_tokens=False).ids, text


@pytest.mark.parametrize("words", ["none", "new ones"])
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "always"])  # which loses spaces by itself
def test_what_is_encoded_comes_back(shape, words):
    ours, _ = pair(shape, words)
    for text in (text for text in TEXTS if "\u2581" not in text):
        marked_alike = shape.startswith("first") and text.startswith(" ")  # as the text without the space
        if not marked_alike:
            assert ours.decode(ours.encode(text)) == text
        after = ours.encode_after(text)
        user, end = ours.special_tokens["<|user|>"], ours.special_tokens["<|end|>"]
        assert ours.decode([user, *after, end]) == f"<|user|>{text}<|end|>"


def test_only_the_beginning_of_a_text_is_marked():
    """Phi-3-mini's tokenizer as transformers 5 saves it: huggingface/transformers#35973."""
    ours, _ = pair("first", "none")
    piece = {id: piece for piece, id in json.loads(ours.content)["model"]["vocab"].items()}
    assert [piece[id] for id in ours.encode("the")] == ["\u2581the"]
    assert [piece[id] for id in ours.encode_after("the")] == ["the"]


def test_space_in_front_of_a_special_token_is_swallowed():
    """phi-4's tokens have ``lstrip`` and ``rstrip``."""
    made = tokenizers.Tokenizer.from_str(SHAPES["bytes"].to_str())
    made.add_tokens([AddedToken(n, special=True, normalized=False, lstrip=True, rstrip=True) for n in ROLES])
    ours = HuggingFaceTokenizer.from_content(made.to_str())
    assert ours.swallows_space_before == set(ROLES)
    written = "<|user|>\n  and \n <|end|>\n<|assistant|>\n"
    rendered = render([Message("user", "  and \n ")], ours, generation=True)
    assert rendered.ids == made.encode(written, add_special_tokens=False).ids


def test_merges_as_strings_or_pairs_are_the_same():
    content = with_words(tokenizers.Tokenizer.from_str(SHAPES["first"].to_str()), "the", "zwitterion")
    one, other = (HuggingFaceTokenizer.from_content(text) for text in (content, merges_as_strings(content)))
    assert [one.encode(text) for text in TEXTS] == [other.encode(text) for text in TEXTS]


# ------------------------------------------------------------------------- special tokens that are pieces too


@pytest.mark.parametrize("shape", ["bytes", "bytes, whole words", "first"])
def test_a_special_token_that_is_a_piece_never_comes_from_text(shape):
    """`the` is merged from `th`, which a fine-tuner made special: it stays a piece, and `th` alone is two letters."""
    made = tokenizers.Tokenizer.from_str(SHAPES[shape].to_str())
    made.add_special_tokens(["th"])
    ours = HuggingFaceTokenizer.from_content(made.to_str())
    special = ours.special_tokens["th"]
    for text in ("the", "th", "thin th", "the the", "paths"):
        assert special not in ours.encode(text)
        assert ours.decode(ours.encode(text)) == text
    assert len(ours.encode_after("the")) == 1


def test_a_special_token_that_is_a_letter_counts_as_a_word():
    """``pad_token = "!"``, as some fine-tuners set it: no text could do without."""
    made = tokenizers.Tokenizer.from_str(SHAPES["bytes"].to_str())
    made.add_special_tokens(["!"])
    ours = HuggingFaceTokenizer.from_content(made.to_str())
    assert "!" in ours.words
    assert "!" not in ours.special_tokens
    assert ours.encode("no!") == made.encode("no!").ids


def test_tokens_that_divide_turns_are_special_whatever_the_file_says():
    parsed = json.loads(SHAPES["bytes"].to_str())
    for token in parsed["added_tokens"]:
        token["special"] = False
    ours = HuggingFaceTokenizer.from_content(json.dumps(parsed))
    assert ours.special_tokens.keys() == set(ROLES)
    assert not set(ours.encode("<|end|><|system|>")) & set(ours.special_tokens.values())


def test_words_keep_the_numbers_of_the_file():
    """The library counts on from the last id; a file with holes says other numbers."""
    parsed = json.loads(with_words(tokenizers.Tokenizer.from_str(SHAPES["bytes"].to_str()), "zwitterion"))
    parsed["added_tokens"][-1]["id"] += 7
    ours = HuggingFaceTokenizer.from_content(json.dumps(parsed))
    word = parsed["added_tokens"][-1]["id"]
    assert ours.words == {"zwitterion": word}
    assert word in ours.encode("a zwitterion")
    assert ours.decode(ours.encode("a zwitterion is")) == "a zwitterion is"


# --------------------------------------------------------------------------------------------- bad input


def test_half_a_character_is_told_with_its_place():
    ours, _ = pair("first", "none")
    for encode in (ours.encode, ours.encode_after, lambda text: ours.encode_batch(["fine", text])):
        with pytest.raises(UserError, match=r"half a character, U\+D83D at 5 \('half \\ud83d emoji'\)"):
            encode("half \ud83d emoji")


def test_a_byte_order_mark_is_taken(tmp_path):
    content = SHAPES["bytes"].to_str()
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8-sig")
    ours = HuggingFaceTokenizer(str(tmp_path / "tokenizer.json"))
    assert ours.content == content
    assert HuggingFaceTokenizer.from_content("\ufeff" + content).fingerprint == ours.fingerprint


def test_bytes_that_are_not_fallen_back_to_are_missed():
    parsed = json.loads(SHAPES["first"].to_str())
    parsed["model"]["byte_fallback"] = False
    with pytest.raises(UserError, match="reads some as <unk>; switch byte_fallback on"):
        HuggingFaceTokenizer.from_content(json.dumps(parsed))


def test_what_the_library_cannot_read_is_told_in_a_line():
    parsed = json.loads(SHAPES["bytes"].to_str())
    del parsed["model"]["vocab"]["th"]
    with pytest.raises(UserError, match=r"the tokenizers library cannot read tokenizer\.json: .*th"):
        HuggingFaceTokenizer.from_content(json.dumps(parsed))
