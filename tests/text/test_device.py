"""The device's tokenizer.json: streams, has no holes, gives the model's ids; the template for apps."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pytest
import tiktoken
import tokenizers

from phi3kit import UserError
from phi3kit.records import Message
from phi3kit.testing import tiny
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer, render
from phi3kit.text.cl100k import PATTERN
from phi3kit.text.device import device_tokenizer
from phi3kit.text.device_template import device_tokenizer_config, template
from phi3kit.text.ranks import bpe_of_ranks
from phi3kit.text.template import segments

FILES = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
REAL = {
    "mini": (HuggingFaceTokenizer, FILES / "phi-3-mini/tokenizer.json"),
    "vision": (HuggingFaceTokenizer, FILES / "phi-3-vision/tokenizer.json"),
    "small": (Cl100kTokenizer, FILES / "phi-3-small/cl100k_base.tiktoken"),
}
TEXTS = ["Hello, how are you?", "a \n ", "a  \nb\n\n c  ", "1234567 I'LL don't", "\r\n x\t\t\n", *tiny.TEXTS]
CHAT = [Message("system", "Be brief."), Message("user", "2+2?"), Message("assistant", "4"), Message("user", "Sure?")]


@pytest.fixture(params=["trained", *REAL], scope="module")
def tokenizer(request):
    if request.param == "trained":
        return tiny.tokenizer()
    kind, file = REAL[request.param]
    if not file.is_file():
        pytest.skip(f"{file} is not there (a licence question: the project ships no tokenizer)")
    return kind(str(file))


@pytest.fixture(scope="module")
def file(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("device") / "tokenizer.json"
    path.write_text(json.dumps(device_tokenizer(tokenizer)))
    return path


def test_read_again_it_gives_the_same_ids(tokenizer, file):
    again = HuggingFaceTokenizer(str(file))
    assert again.vocab_size == tokenizer.vocab_size
    assert again.opens_with == tokenizer.opens_with
    assert again.swallows_space_after == tokenizer.swallows_space_after
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text), text
    assert render(CHAT, again, generation=True) == render(CHAT, tokenizer, generation=True)


def test_executorchs_tokenizer_gives_the_same_ids(tokenizer, file):
    from phi3kit.export.device_text import check_device_text

    found = check_device_text(file, tokenizer, TEXTS, tokenizer.vocab_size)
    assert found["faults"] == []
    assert found["texts"] == len(TEXTS) + 2 * len(tokenizer.words)


def test_ids_have_no_holes(tokenizer, file):
    content = json.loads(file.read_text())
    ids = {*content["model"]["vocab"].values(), *(t["id"] for t in content["added_tokens"])}
    assert ids == set(range(tokenizer.vocab_size))


def test_the_decoder_streams(file):
    assert "Strip" not in json.dumps(json.loads(file.read_text())["decoder"])


def test_the_jinja_template_writes_what_training_read(tokenizer):
    config = device_tokenizer_config(tokenizer)
    assert config["eos_token"] == "<|end|>"
    rows = [{"role": m.role, "content": m.content} for m in CHAT]
    write = jinja2.Environment().from_string(config["chat_template"]).render
    wanted = "".join(s.text for s in segments(CHAT, tokenizer, generation=True))
    assert write(messages=rows, add_generation_prompt=True) == wanted
    assert write(messages=rows).startswith(write(messages=rows[:3])), "a conversation is a prefix of its continuation"


def test_the_jinja_template_leaves_out_what_training_does(tokenizer):
    write = jinja2.Environment().from_string(device_tokenizer_config(tokenizer)["chat_template"]).render
    chat = [Message("system", ""), Message("user", " \n\t\u3000Why? "), Message("assistant", "  So. ")]
    rows = [{"role": m.role, "content": m.content} for m in chat]
    assert write(messages=rows) == "".join(s.text for s in segments(chat, tokenizer))
    swallows = "<|user|>" in tokenizer.swallows_space_after
    assert ("<|user|>Why? <|end|>" in write(messages=rows)) is swallows


def test_the_pieces_join_to_what_training_read(tokenizer):
    pieces = template(tokenizer)
    fill = lambda name, text: pieces[name].replace("{content}", text)  # noqa: E731
    first = pieces["begin"] + fill("user", "2+2?") + pieces["answer"]
    whole = first + "4" + fill("next", "Sure?")
    turns = [Message("user", "2+2?"), Message("assistant", "4"), Message("user", "Sure?")]
    assert whole == "".join(s.text for s in segments(turns, tokenizer, generation=True))


def test_trained_template_has_no_newlines():
    assert template(tiny.tokenizer())["next"] == "<|end|><|user|>{content}<|end|><|assistant|>"


def test_holes_are_filled():
    content = json.loads(tiny.tokenizer().content)
    for token in content["added_tokens"]:
        token["id"] += 3
    filled = device_tokenizer(HuggingFaceTokenizer.from_content(json.dumps(content)))
    assert [t["content"] for t in filled["added_tokens"] if t["id"] < 510] == [
        "<|unused_507|>",
        "<|unused_508|>",
        "<|unused_509|>",
    ]


def test_a_decoder_no_device_has():
    content = json.loads(tiny.tokenizer().content) | {"decoder": {"type": "Metaspace", "replacement": "▁"}}
    content["decoder"] |= {"prepend_scheme": "always", "split": True}
    with pytest.raises(UserError, match="a device cannot decode with Metaspace; it knows ByteLevel"):
        device_tokenizer(HuggingFaceTokenizer.from_content(json.dumps(content)))


def test_no_decoder():
    content = json.loads(tiny.tokenizer().content) | {"decoder": None}
    with pytest.raises(UserError, match="the tokenizer has no decoder"):
        device_tokenizer(HuggingFaceTokenizer.from_content(json.dumps(content)))


def test_ranks_become_the_same_bpe():
    """tiktoken itself, with ranks made from the tiny tokenizer's vocabulary."""
    printable = bpe_of_ranks({bytes([byte]): byte for byte in range(256)})["model"]["vocab"]
    vocab = json.loads(tiny.tokenizer().content)["model"]["vocab"]
    ranks = {bytes(printable[c] for c in piece): id for piece, id in vocab.items() if set(piece) <= set(printable)}
    assert len(ranks) > 480
    reference = tiktoken.Encoding("tiny", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    ours = tokenizers.Tokenizer.from_str(json.dumps(bpe_of_ranks(ranks)))
    for text in TEXTS:
        assert ours.encode(text).ids == reference.encode_ordinary(text), text
