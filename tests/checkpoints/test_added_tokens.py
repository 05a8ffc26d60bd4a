"""A public folder's tokenizer gives the ids that transformers' AutoTokenizer gives, whatever files name its tokens."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizer_shapes import ROLES, TEXTS, shapes, with_words

from phi3kit import torchvision_ops
from phi3kit.checkpoints.tokenizer_files import read_tokenizer
from phi3kit.errors import UserError
from phi3kit.records import Message
from phi3kit.text import render

SHAPES = shapes()
ROWS = 600


@pytest.fixture(scope="module")
def auto():
    """transformers' AutoTokenizer."""
    torchvision_ops.declare()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained


def folder(path, shape="bytes", words=(), **files):
    """A public folder's tokenizer; `files` by name without ``.json``."""
    path.mkdir(exist_ok=True)
    content = with_words(tokenizers.Tokenizer.from_str(SHAPES[shape].to_str()), *words)
    (path / "tokenizer.json").write_text(content)
    (path / "config.json").write_text('{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}')
    for name, held in {"tokenizer_config": {}, **files}.items():
        (path / f"{name}.json").write_text(json.dumps(held))
    return path


def decoder(path, **changes):
    """``added_tokens_decoder`` of a folder's own tokenizer.json, fields of named tokens changed."""
    tokens = json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    held = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in tokens}
    for token in held.values():
        token |= changes.get(token["content"], {})
    return held


def compare(path, auto):
    """Ids of texts without special tokens, and of a conversation."""
    ours, theirs = read_tokenizer(path, ROWS), auto(str(path))
    for text in (text for text in TEXTS if "<|" not in text):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
        rendered = render([Message("user", text)], ours, generation=True)
        written = f"<|user|>\n{text}<|end|>\n<|assistant|>\n"
        assert rendered.ids == theirs.encode(written, add_special_tokens=False), written
    return ours, theirs


@pytest.mark.parametrize("shape", ["bytes", "prepend", "first"])
def test_flags_of_the_config_win(shape, tmp_path, auto):
    """huggingface/transformers#35973: tokenizer_config.json says `rstrip: false` where tokenizer.json says true."""
    path = folder(tmp_path / "p", shape)
    changed = decoder(path, **{name: {"rstrip": False} for name in ROLES})
    folder(path, shape, tokenizer_config={"added_tokens_decoder": changed})
    ours, _ = compare(path, auto)
    assert not ours.swallows_space_after


@pytest.mark.parametrize("shape", ["bytes", "prepend", "first"])
def test_words_that_only_the_config_has(shape, tmp_path, auto):
    path = folder(tmp_path / "p", shape)
    added = decoder(path)
    last = max(map(int, added))
    for place, word in enumerate(("zwitterion", "<think>", "the"), start=1):
        added[str(last + place)] = {"content": word, "normalized": False, "special": False}
    folder(path, shape, tokenizer_config={"added_tokens_decoder": added})
    ours, theirs = compare(path, auto)
    assert ours.words.items() <= theirs.get_added_vocab().items()
    assert {"zwitterion", "<think>", "the"} <= ours.words.keys()


def test_added_tokens_file_of_older_releases(tmp_path, auto):
    path = folder(
        tmp_path / "p",
        added_tokens={"zwitterion": 500, "<pad>": 501},
        special_tokens_map={"pad_token": "<pad>", "eos_token": {"content": "<|end|>", "lstrip": False, "rstrip": True}},
    )
    ours, theirs = compare(path, auto)
    assert ours.words["zwitterion"] == theirs.convert_tokens_to_ids("zwitterion")
    assert ours.special_tokens["<pad>"] == theirs.convert_tokens_to_ids("<pad>")


def test_tokens_that_are_named_only(tmp_path, auto):
    """A padding token, additional special tokens and one of a name of its own, none in tokenizer.json."""
    path = folder(
        tmp_path / "p",
        tokenizer_config={"pad_token": "<pad>", "additional_special_tokens": ["<a>", "<b>"], "image_token": "<i>"},
    )
    ours, theirs = compare(path, auto)
    for name in ("<pad>", "<a>", "<b>"):
        assert ours.special_tokens[name] == theirs.convert_tokens_to_ids(name)


@pytest.mark.parametrize("word", ["phi3kit", "th", "the", "\u00e9"])
def test_as_transformers_saves_an_added_word(word, tmp_path, auto):
    theirs = auto(str(folder(tmp_path / "p", "prepend")))
    theirs.add_tokens([word])
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved/config.json").write_bytes((tmp_path / "p/config.json").read_bytes())
    ours, _ = compare(tmp_path / "saved", auto)
    for text in (f"a {word} word", word, f"{word}{word}", f"the{word}"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_a_folder_whose_files_agree_keeps_its_file_as_it_is(tmp_path):
    path = folder(tmp_path / "p", "first", words=["zwitterion"])
    folder(path, "first", words=["zwitterion"], tokenizer_config={"added_tokens_decoder": decoder(path)})
    assert read_tokenizer(path, ROWS).content == (path / "tokenizer.json").read_text()


def test_a_named_special_token_without_a_row_is_left_out(tmp_path):
    path = folder(tmp_path / "p")
    rows = read_tokenizer(path, ROWS).vocab_size
    folder(path, tokenizer_config={"pad_token": "<pad>"})
    assert "<pad>" not in read_tokenizer(path, rows).special_tokens
    assert "<pad>" in read_tokenizer(path, rows + 1).special_tokens


def test_files_with_a_byte_order_mark_and_damaged_ones(tmp_path):
    path = folder(tmp_path / "p")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_text((path / name).read_text(), encoding="utf-8-sig")
    assert read_tokenizer(path, ROWS).encode("Hello") == read_tokenizer(folder(tmp_path / "q"), ROWS).encode("Hello")
    (path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer_config\.json is not JSON"):
        read_tokenizer(path, ROWS)
