"""The device's tokenizer, in C++, against training's, before an export begins: equal, or refused in a line."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizer_shapes import TEXTS, shapes, with_words
from tokenizers import AddedToken, pre_tokenizers

from phi3kit.errors import UserError
from phi3kit.export.device_text import check_before, check_device_text
from phi3kit.text import HuggingFaceTokenizer
from phi3kit.text.device import device_tokenizer

SHAPES = shapes()
ROWS = 600
WORDS = ("<think>", "zwitterion", "New York")


def made(shape, *words, change=None):
    copy = tokenizers.Tokenizer.from_str(SHAPES[shape].to_str())
    if change is not None:
        change(copy)
    return HuggingFaceTokenizer.from_content(with_words(copy, *words))


@pytest.mark.parametrize("words", [(), WORDS], ids=["no words", "words"])
@pytest.mark.parametrize(
    "shape", ["prepend", "first", "first, split", "never", "bytes", "bytes, split", "bytes, digits"]
)
def test_a_device_reads_what_training_read(shape, words, tmp_path):
    """Metaspace, which ExecuTorch's tokenizer lacks (pytorch/executorch#11618), and words of a fine-tuner."""
    ours = made(shape, *words)
    check_before(ours, ROWS)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(device_tokenizer(ours)))
    found = check_device_text(file, ours, [text for text in TEXTS if "\u2581" not in text], ROWS)
    assert found["faults"] == []
    assert found["texts"] >= 2 * len(words) + 7


def test_words_that_coincide_with_pieces_on_bytes():
    check_before(made("bytes", "the", "an"), ROWS)


def test_words_that_swallow_space_are_compared_where_there_is_none():
    """Phi-3-mini's ``</s>`` is such a word."""
    check_before(made("prepend", AddedToken("</s>", normalized=False, rstrip=True, special=False)), ROWS)


@pytest.mark.parametrize(
    ("shape", "word", "message"),
    [
        (
            "bytes",
            AddedToken("zwitterion", normalized=False, single_word=True),
            r"'xzwitteriony zwitterion, zwitterion",
        ),
        (
            "prepend",
            "the",
            r"cannot use the model's tokenizer as it was trained with: .* on the device, \[.* in training",
        ),
    ],
)
def test_a_word_that_a_device_finds_elsewhere_is_refused(shape, word, message):
    with pytest.raises(UserError, match=message):
        check_before(made(shape, word), ROWS)


def test_a_step_that_no_device_has_is_named():
    def bert(copy):
        copy.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), copy.pre_tokenizer])

    with pytest.raises(
        UserError, match=r"cannot read the model's tokenizer \(pre_tokenizer BertPreTokenizer and ByteL"
    ):
        check_before(made("bytes", change=bert), ROWS)


def test_a_tokenizer_with_more_ids_than_logits():
    with pytest.raises(UserError, match="there are 200 logits"):
        check_before(made("bytes"), 200)
