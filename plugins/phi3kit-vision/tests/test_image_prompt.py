"""Prompts with image tags: the public processor's ids, each tag once, user turns only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tokenizers
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.prompt import TAG, render_pictured

from phi3kit import Message, UserError
from phi3kit.testing import tiny
from phi3kit.text import HuggingFaceTokenizer, render

GOLDEN = [32010, 29871, 13, 10994, 32007, 29871, 13, 32001]  # the specification's, section 3.1, column "vision"


@pytest.fixture(scope="session")
def file(shared_data: Path) -> Path:
    """Phi-3-vision's tokenizer.json."""
    return shared_data / "tokenizers" / "phi-3-vision" / "tokenizer.json"


def chat(*texts: str) -> list[Message]:
    """User and assistant in turn."""
    return [Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]


def processed(file: Path, text: str, lengths: list[int], bos_after_image: bool) -> list[int]:
    """Ids as the public processor makes them: the whole prompt as one text, split at the tags, each piece with bos."""
    public = tokenizers.Tokenizer.from_file(str(file))
    pieces, numbers = re.split(r"<\|image_\d+\|>", text), [int(n) for n in TAG.findall(text)]
    ids: list[int] = []
    for piece, number in zip(pieces, [*numbers, None], strict=True):
        encoded = public.encode(piece).ids if piece else [1]
        assert encoded[0] == 1
        ids += encoded if bos_after_image or not ids else encoded[1:]
        ids += [] if number is None else [-number] * lengths[number - 1]
    return ids


PROMPTS = [
    (chat("Hello"), []),
    (chat("<|image_1|>\nHello"), [757]),
    (chat("<|image_1|>\n<|image_2|>\nCompare the two."), [13, 25]),
    (chat("<|image_1|><|image_2|>What changed?", "The lamp.", "And here?\n<|image_3|>"), [3, 4, 5]),
    (chat("first <|image_2|> then <|image_1|>  done"), [6, 2]),
    ([Message("system", "Be brief."), *chat("<|image_1|>\nWhat is  it?\n", "A café.\n", "Sure?")], [7]),
]


@pytest.mark.parametrize("bos_after_image", [False, True])
@pytest.mark.parametrize(("messages", "lengths"), PROMPTS)
def test_ids_are_the_public_processors(messages, lengths, bos_after_image, file):
    text = "".join(f"<|{m.role}|>\n{m.content}<|end|>\n" for m in messages) + "<|assistant|>\n"
    prompt = render_pictured(
        messages, lengths, HuggingFaceTokenizer(str(file)), generation=True, bos_after_image=bos_after_image
    )
    assert prompt.ids == processed(file, text, lengths, bos_after_image)


def test_golden_ids(file):
    tokenizer = HuggingFaceTokenizer(str(file))
    assert render_pictured(chat("Hello"), [], tokenizer, generation=True).ids == [1, *GOLDEN]
    rows = HDTransform(4).count((640, 480))
    got = render_pictured(chat("<|image_1|>\nHello"), [rows], tokenizer, generation=True)
    assert got.ids == [1, 32010, 29871, 13, *[-1] * 757, 29871, 13, *GOLDEN[3:]]


@pytest.mark.parametrize("messages", [chat("Hello", "Hi.", "Go on"), chat("a\n\nb", " c ")])
def test_without_images_it_is_the_common_template(messages):
    tokenizer = tiny.tokenizer()
    plain, pictured = render(messages, tokenizer), render_pictured(messages, [], tokenizer)
    assert (pictured.ids, pictured.supervised) == (plain.ids, plain.supervised)


def test_only_answers_are_supervised():
    tokenizer = tiny.tokenizer()
    messages = chat("<|image_1|>\nWhat?", "A lamp.", "And <|image_2|>?", "A wall.")
    prompt = render_pictured(messages, [3, 2], tokenizer)
    learned = [id for id, wanted in zip(prompt.ids, prompt.supervised, strict=True) if wanted]
    assert tokenizer.decode(learned) == "A lamp.<|end|>A wall.<|end|>"
    assert [id for id in prompt.ids if id < 0] == [-1, -1, -1, -2, -2]
    assert prompt.order == [0, 1]


def test_images_come_in_the_order_of_their_tags():
    prompt = render_pictured(chat("<|image_2|> and <|image_1|>"), [3, 2], tiny.tokenizer())
    assert [id for id in prompt.ids if id < 0] == [-2, -2, -1, -1, -1]
    assert prompt.order == [1, 0]


@pytest.mark.parametrize(("text", "images", "message"), [
    ("What is it?", 1, "there are 1 images and the text has no tags; write <|image_1|> once"),
    ("<|image_1|>", 2, "there are 2 images and the text has <|image_1|>; write <|image_1|> to <|image_2|> once each"),
    ("<|image_1|> <|image_2|>", 1, "there are 1 images and the text has <|image_1|> <|image_2|>; write <|image_1|> on"),
    ("<|image_1|> <|image_3|>", 2, "there are 2 images and the text has <|image_1|> <|image_3|>; write <|image_1|> t"),
    ("<|image_1|> <|image_1|>", 1, "there are 1 images and the text has <|image_1|> <|image_1|>; write <|image_1|> on"),
    ("<|image_0|>", 1, "there are 1 images and the text has <|image_0|>; write <|image_1|> once"),
    ("<|image_1|>", 0, "there are 0 images and the text has <|image_1|>; write none"),
])  # fmt: skip
def test_tags_that_are_not_the_images(text, images, message):
    with pytest.raises(UserError, match=re.escape(message)):
        render_pictured(chat(text, "Yes."), [2] * images, tiny.tokenizer())


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_only_users_show_images(role):
    messages = [Message("user", "Hi"), Message(role, "see <|image_1|>")]
    with pytest.raises(UserError, match=rf"<\|image_1\|> stands in a turn of the {role}; only user turns show images"):
        render_pictured(messages, [2], tiny.tokenizer())
