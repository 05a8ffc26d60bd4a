"""An answer's text, piece by piece, is what it adds to its prompt's: checked against `tokenizers` itself."""

from __future__ import annotations

import json

import pytest
import tokenizers
from tokenizers import decoders, normalizers

from phi3kit.serve.pieces import stream
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer

SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEXTS = ["Hello Hello", " Hello  Try", "Try  again", "Hello 東京 again", "no 🙂🧵 vocabulary", "a\n b\tc", "  "]


def llama_style(*, device: bool = False) -> tokenizers.Tokenizer:
    """Phi-3-mini's kind: spaces are ▁, one more in front of a text, other characters in bytes. A device's decoder sees
    one id at a time and strips nothing."""
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], "▁", *sorted("HeloTryagin.?!")]
    merges = [("H", "e"), ("l", "l"), ("He", "ll"), ("Hell", "o"), ("▁", "Hello"), ("▁", "▁")]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *(a + b for a, b in merges)]))}
    model = tokenizers.models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence(steps if device else [*steps, decoders.Strip(" ", 1, 0)])
    for name in SPECIAL:
        made.add_special_tokens([tokenizers.AddedToken(name, normalized=False, rstrip=name != SPECIAL[0])])
    return made


@pytest.fixture(params=["llama", "device", "bytes"])
def tokenizer(request):
    if request.param == "bytes":
        return tiny.tokenizer()
    return HuggingFaceTokenizer.from_content(llama_style(device=request.param == "device").to_str())


@pytest.mark.parametrize("text", TEXTS)
def test_a_continued_text_is_the_text(tokenizer, text):
    """Wherever it is cut between two ids; whole pieces only, also across a cut within a character."""
    ids = tokenizer.encode(text)
    wanted = tokenizer.decode(ids).removeprefix(" " if tokenizer.decode(tokenizer.encode("a")) == " a" else "")
    assert wanted == text
    for cut in range(1, len(ids) + 1):
        prompt = tokenizer.decode(ids[:cut])
        answer = "".join(stream(ids[cut:], tokenizer, ids[:cut]))
        whole = tokenizer.decode(ids)
        if not prompt.endswith("\N{REPLACEMENT CHARACTER}"):
            assert prompt + answer == whole
        assert answer == "" or whole.endswith(answer)
        assert "\N{REPLACEMENT CHARACTER}" not in answer


def test_the_first_space_stays_where_nothing_is_said_of_the_prompt(tokenizer):
    ids = tokenizer.encode("Hello Hello")
    cut = len(tokenizer.encode("Hello"))
    assert "".join(stream(ids[cut:], tokenizer)) == " Hello"


def test_a_prompt_that_ends_within_a_character_gets_its_rest(tokenizer):
    ids, before = tokenizer.encode("a🧵 b"), tokenizer.encode("a")
    for cut in range(len(before) + 1, len(ids) - len(tokenizer.encode("b"))):
        if not tokenizer.decode(ids[:cut]).endswith("\N{REPLACEMENT CHARACTER}"):
            break
        assert "".join(stream(ids[cut:], tokenizer, ids[:cut])) == "🧵 b"
        assert "".join(stream(tokenizer.encode("a")[-1:], tokenizer, ids[:cut])) == "a", "it never comes: left out"


def test_an_answer_in_a_chat_begins_a_text(tokenizer):
    """After a special token a Llama-style tokenizer marks the first word; that mark is no space of the answer."""
    prompt = [tokenizer.special_tokens["<|assistant|>"]]
    for text in TEXTS:
        assert "".join(stream(tokenizer.encode(text), tokenizer, prompt)) == text


def test_the_pieces_are_those_of_the_library():
    """Each piece of an answer, joined to the prompt, is the library's own decoding of all ids so far."""
    reference = llama_style()
    tokenizer = HuggingFaceTokenizer.from_content(reference.to_str())
    ids = reference.encode("Hello 東京 🙂 Hello  again", add_special_tokens=False).ids
    whole = [n for n in range(1, len(ids)) if not reference.decode(ids[:n]).endswith("\N{REPLACEMENT CHARACTER}")]
    assert len(whole) > 8
    for cut in whole:
        said, steps = reference.decode(ids[:cut]), {reference.decode(ids[:n]) for n in range(cut, len(ids) + 1)}
        for piece in stream(ids[cut:], tokenizer, ids[:cut]):
            said += piece
            assert said in steps
        assert said == reference.decode(ids)


def test_bytes_that_are_no_character_do_not_take_others_with_them():
    tokenizer = HuggingFaceTokenizer.from_content(llama_style().to_str())
    vocab = json.loads(tokenizer.content)["model"]["vocab"]
    ids = [*(vocab[f"<0x{byte:02X}>"] for byte in "東".encode()), vocab["<0xFF>"], vocab["e"]]
    assert "".join(stream(ids, tokenizer)) == "東\N{REPLACEMENT CHARACTER}e"


def test_a_long_answer_costs_the_same_per_piece(tokenizer):
    """No piece is decoded together with all that was before it."""
    lengths = []

    class Counted:
        template_tokens = tokenizer.template_tokens
        encode = staticmethod(tokenizer.encode)

        def decode(self, ids):
            lengths.append(len(ids))
            return tokenizer.decode(ids)

    ids = tokenizer.encode("again " * 50)
    assert "".join(stream(ids, Counted(), tokenizer.encode("Try "))) == tokenizer.decode(
        [*tokenizer.encode("Try "), *ids]
    ).removeprefix(tokenizer.decode(tokenizer.encode("Try ")))
    assert max(lengths) < 12
