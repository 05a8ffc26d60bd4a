"""Batches with images: their family's law, no loss on an image, images in reading order, nothing left out silently."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from drawn_pictures import DATA, ROWS_PER_IMAGE, write_pictures
from phi3kit_vision.conversation_batches import ImageConversationBatches
from phi3kit_vision.hd import HDTransform
from phi3kit_vision.image_files import BadImage, read_image
from phi3kit_vision.preference_batches import ImagePreferenceBatches
from phi3kit_vision.rows import next_fit
from phi3kit_vision.text_batches import ImageTextBatches
from PIL import Image

from phi3kit import Batch, Tokenizer, UserError
from phi3kit.phases import Batches, ConversationBatches
from phi3kit.testing import contracts
from phi3kit.text import load_tokenizer

KINDS = {"captions": ImageTextBatches, "chats": ImageConversationBatches, "pairs": ImagePreferenceBatches}
HD = HDTransform(DATA["crops"], DATA["view"], DATA["patch"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), pictures=16)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder / "tokenizer")


def build(kind: str, folder: Path, tokenizer: Tokenizer, **options: Any) -> Batches:
    files = {part: folder / f"{kind}-{part}.jsonl" for part in ("train", "heldout")}
    return KINDS[kind](tokenizer, **{**files, **DATA, **options})


def train_batches(data: Batches, steps: int = 8) -> list[Batch]:
    data.trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False)
    return list(data.train_dataloader())


@pytest.mark.parametrize("kind", KINDS)
def test_they_keep_the_law(kind, folder, tokenizer):
    contracts.check_batches(lambda t: build(kind, folder, t), tokenizer)


@pytest.mark.parametrize("bos_after_image", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_falls_on_images(kind, folder, tokenizer, bos_after_image):
    data = build(kind, folder, tokenizer, bos_after_image=bos_after_image)
    batches = [*train_batches(data), *data.val_dataloader()]
    assert any(batch.pictures for batch in batches)
    for batch in batches:
        image_BT = batch.tokens_BT < 0
        assert bool((batch.labels_BT[image_BT] == -100).all())
        assert bool(((batch.labels_BT >= 0) | (batch.labels_BT == -100)).all())
        grids = batch.pictures.grids if batch.pictures else []
        assert int(image_BT.sum()) == len(grids) * ROWS_PER_IMAGE
        assert bool((batch.labels_BT != -100).any(dim=1).all()), "a row teaches nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_in_reading_order(kind, folder, tokenizer):
    """Each run of image ids, in reading order, has the pixels of the file that its text names."""
    data = build(kind, folder, tokenizer)
    rows = data.samples("train")
    for batch in train_batches(data, 4):
        named = [image for number in batch.samples for one in flat(rows[number]) for image in one.images]
        wanted = torch.cat([HD(read_image(image))[0] for image in named])
        assert batch.pictures is not None
        assert torch.equal(batch.pictures.pixels_VCYX, wanted)


def flat(row: Any) -> list[Any]:
    return row if isinstance(row, list) else [row]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_preferences_differ_in_the_answer_alone(folder, tokenizer):
    (batch,) = train_batches(build("pairs", folder, tokenizer), 1)
    assert batch.pictures is not None
    views = batch.pictures.pixels_VCYX.unflatten(0, (-1, 2, 2))  # pairs, answers, views
    assert torch.equal(views[:, 0], views[:, 1])
    for chosen_T, rejected_T, labels_2T in zip(
        batch.tokens_BT[0::2], batch.tokens_BT[1::2], batch.labels_BT.unflatten(0, (-1, 2)), strict=True
    ):
        learned = [tokenizer.decode(row_T[row_T != -100].tolist()) for row_T in labels_2T]
        assert learned[0] != learned[1]
        assert all(re.fullmatch(r"(red|green|blue|black)<\|end\|>", text) for text in learned)
        first = int((labels_2T[0] != -100).nonzero()[0])
        assert torch.equal(chosen_T[: first + 1], rejected_T[: first + 1])


def test_captions_are_learned_whole(folder, tokenizer):
    """All but the newline that follows the image: it would be predicted at the image's last row."""
    (batch,) = train_batches(build("captions", folder, tokenizer, batch_size=8), 1)
    texts = tokenizer.decode(batch.labels_BT[batch.labels_BT != -100].tolist()).split("<|endoftext|>")
    about_images = [text for text in texts if text.startswith("A ")]
    assert len(about_images) >= 8
    assert set(about_images) <= {f"A {colour} square." for colour in ("red", "green", "blue", "black")}


def test_conversations_without_images_are_what_they_are_elsewhere(folder, tokenizer, tmp_path):
    talk = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It is a square."}]
    file = lines(tmp_path / "talk.jsonl", *({"messages": talk} for _ in range(5)))
    options = {"train": file, "heldout": file, "context": 40, "batch_size": 2}
    ours = train_batches(ImageConversationBatches(tokenizer, **options), 3)
    for got, wanted in zip(ours, train_batches(ConversationBatches(tokenizer, **options), 3), strict=True):
        assert got.pictures is None
        assert torch.equal(got.tokens_BT, wanted.tokens_BT)
        assert torch.equal(got.labels_BT, wanted.labels_BT)


def chat_about(folder: Path, images: int, answer: str = "red") -> dict[str, Any]:
    tags = "".join(f"<|image_{k + 1}|>" for k in range(images))
    messages = [{"role": "user", "content": f"{tags}\nWhich?"}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": [str(folder / "images" / "train-0.png")] * images}


def test_what_does_not_fit_is_told(folder, tokenizer, tmp_path, capsys):
    file = lines(tmp_path / "c.jsonl", chat_about(folder, 1), chat_about(folder, 9), chat_about(folder, 1, "red " * 90))
    data = ImageConversationBatches(tokenizer, train=file, heldout=file, **DATA)
    kept = [one for row in data.samples("train") for one in row]
    assert sorted(len(one.images) for one in kept) == [1, 1]
    data.samples("train")
    said = capsys.readouterr().err
    assert said.count("3 are longer than 96 tokens: 1 cut at the end, 1 left out because their images do not fit") == 1
    nothing = lines(tmp_path / "n.jsonl", chat_about(folder, 9))
    with pytest.raises(UserError, match=r"n.jsonl holds nothing to learn within 96 tokens; raise context or lower cr"):
        ImageConversationBatches(tokenizer, train=nothing, heldout=nothing, **DATA).samples("train")


def test_preferences_that_do_not_fit_are_told(folder, tokenizer, capsys, tmp_path):
    answer = lambda text: [{"role": "assistant", "content": text}]  # noqa: E731
    row = {"prompt": "<|image_1|>?", "chosen": answer("red"), "images": [str(folder / "images" / "train-0.png")]}
    file = lines(tmp_path / "p.jsonl", {**row, "rejected": answer("no")}, {**row, "rejected": answer("no " * 99)})
    assert len(ImagePreferenceBatches(tokenizer, train=file, heldout=file, **DATA).samples("train")) == 1
    assert "p.jsonl: 1 of 2 are longer than 96 tokens: left out" in capsys.readouterr().err


def one_chat(tmp_path: Path, tokenizer: Tokenizer, **changes: Any) -> ImageConversationBatches:
    row = {**chat_about(tmp_path, 1), "id": "first", **changes}
    file = lines(tmp_path / "one.jsonl", row)
    return ImageConversationBatches(tokenizer, train=file, heldout=file, **DATA)


def test_bad_images_are_named_with_their_conversation(tokenizer, tmp_path, folder):
    with pytest.raises(UserError, match=r"one.jsonl:1: cannot read the image .*absent.png: No"):
        one_chat(tmp_path, tokenizer, images=["absent.png"]).samples("train")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"one.jsonl:1: .*empty.png is empty \(0 bytes\)"):
        one_chat(tmp_path, tokenizer, images=["empty.png"]).samples("train")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(UserError, match=r"one.jsonl:1: .*dot.png: an image of 1 x 1 pixels shows nothing"):
        one_chat(tmp_path, tokenizer, images=["dot.png"]).samples("train")
    with pytest.raises(UserError, match=r"one.jsonl:1: there are 2 images and the text has <\|image_1\|>"):
        one_chat(tmp_path, tokenizer, images=[str(folder / "images" / "train-0.png")] * 2).samples("train")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_cut_short_is_one_line_from_a_worker_too(tokenizer, tmp_path, folder, workers):
    whole = (folder / "images" / "train-0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    data = one_chat(tmp_path, tokenizer, images=["cut.png"])
    data.num_workers = workers
    with pytest.raises(BadImage, match=r"^\S*cut.png is damaged or cut short \(.*\); replace it$"):
        train_batches(data, 1)


@pytest.mark.parametrize(("row", "message"), [
    ({"image": 3, "text": "a"}, r"c.jsonl:1: unknown shape, with keys \['image', 'text'\]; accepted: "),
    ({"caption": "a"}, r"c.jsonl:1: unknown shape, with keys \['caption'\]"),
    ({"images": ["x.png"], "text": "no tag"}, r"c.jsonl:1: there are 1 images and the text has no tags"),
    ({"image": "x.png", "text": "a"}, r"c.jsonl:1: cannot read the image .*x.png"),
])  # fmt: skip
def test_bad_caption_rows_are_named(row, message, tokenizer, tmp_path):
    file = lines(tmp_path / "c.jsonl", row)
    with pytest.raises(UserError, match=message):
        ImageTextBatches(tokenizer, train=file, heldout=file, **DATA).samples("train")


def test_interleaved_documents(tokenizer, folder, tmp_path):
    images = [f"{folder}/images/train-{i}.png" for i in range(2)]
    file = lines(tmp_path / "d.jsonl", {"images": images, "text": "A red one <|image_1|>, a green one <|image_2|>."})
    data = ImageTextBatches(tokenizer, train=file, heldout=file, **DATA)
    (batch,) = data.val_dataloader()
    assert batch.pictures is not None
    assert len(batch.pictures.grids) == 2
    assert int((batch.tokens_BT < 0).sum()) == 2 * ROWS_PER_IMAGE
    learned = tokenizer.decode(batch.labels_BT[batch.labels_BT != -100].tolist())
    assert learned.startswith(" red one ")
    assert learned.endswith("<|endoftext|>")


def test_next_fit_packs_everything_once():
    lengths = [1 + 7 * i % 30 for i in range(200)]
    rows = next_fit(lengths, 40, seed=3)
    assert sorted(number for row in rows for number in row) == list(range(200))
    assert max(sum(lengths[number] for number in row) for row in rows) <= 40
    assert rows == next_fit(lengths, 40, seed=3) != next_fit(lengths, 40, seed=4)
    assert len(rows) < 1.6 * sum(lengths) / 40


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_row_costs_that_row(kind, tokenizer, tmp_path, folder, capsys):
    image = str(folder / "images" / "train-0.png")
    good = {
        "captions": {"image": image, "text": "A red square."},
        "chats": chat_about(folder, 1),
        "pairs": {"prompt": "<|image_1|>?", "chosen": "red", "rejected": "no", "images": [image]},
    }[kind]
    bad = {**good, "image": "absent.png"} if kind == "captions" else {**good, "images": ["absent.png"]}
    file = lines(tmp_path / "c.jsonl", good, bad, good, {"caption": "a"}, good)
    data = KINDS[kind](tokenizer, train=file, heldout=file, **DATA)
    data.samples("train")
    counts = data.report["rows"]["train"]
    assert (counts["rows"], counts["unreadable"], counts["left_out"]) == (5, 2, 0)
    said = capsys.readouterr().err
    assert "c.jsonl: 2 of 5 rows cannot be used and are left out: " in said
    assert "c.jsonl:2: cannot read the image" in said
    file = lines(tmp_path / "c.jsonl", good, bad, good)
    with pytest.raises(UserError, match=r"c.jsonl:2: cannot read the image .*absent.png"):
        KINDS[kind](tokenizer, train=file, heldout=file, unreadable="stop", **DATA).samples("train")


def test_chats_as_others_publish_them(tokenizer, tmp_path, folder):
    image = str(folder / "images" / "train-0.png")
    answer = {"role": "assistant", "content": "red"}
    turns = [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": "red"}]
    part = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": "Which?"}]
    rows = [
        {"messages": [{"role": "user", "content": "<|image_1|>\nWhich?"}, answer], "images": [image]},
        {"conversations": turns, "image": image},
        {"messages": [{"role": "user", "content": part}, answer]},
    ]
    file = lines(tmp_path / "c.jsonl", *rows)
    texts = [one for row in ImageConversationBatches(tokenizer, file, file, **DATA).samples("train") for one in row]
    assert len(texts) == 3
    assert all(one.text == texts[0].text for one in texts)


def test_a_share_of_chats_is_held_out(tokenizer, tmp_path, folder):
    asked = [chat_about(folder, 1) for _ in range(10)]
    for number, row in enumerate(asked):
        row["messages"][0]["content"] += f" {number}?"
    data = ImageConversationBatches(tokenizer, lines(tmp_path / "c.jsonl", *asked), holdout=0.2, **DATA)
    data.samples("train"), data.samples("heldout")
    assert [data.report["rows"][part]["rows"] for part in ("train", "heldout")] == [8, 2]
