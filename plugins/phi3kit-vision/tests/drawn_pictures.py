"""Drawn squares of one colour on white, chats, captions and preferences about them, and recipes that train on them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from phi3kit.text import save_tokenizer, train_bpe

COLOURS = {"red": (215, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 215), "black": (20, 20, 20)}
NAMES = list(COLOURS)
ROWS_PER_IMAGE = 13  # views of 28 pixels, patches of 7, one crop: (1 + 1) * 4 + 1 + (1 + 1) * 2

RECIPE: dict[str, Any] = {
    "verb": "fit",
    "tokenizer": "tokenizer",
    "checkpoint_every": 4,
    "net": {
        "dims": {"vocab_size": 320, "hidden_size": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "context": 128},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {"class_path": "RoPE"},
        "vision": {
            "class_path": "CLIPVision",
            "init_args": {"hidden": 32, "layers": 3, "heads": 2, "intermediate": 64, "image": 28, "patch": 7}
            | {"init_std": 0.1},  # 0.02 suits widths of thousands; here an image would begin too faint to be seen
        },
        "init_std": 0.1,
    },
    "phase": {
        "class_path": "NextToken",
        "init_args": {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.003}}},
    },
    "trainer": {"max_steps": 12, "accelerator": "cpu", "log_every_n_steps": 4},
}
DATA = {"context": 96, "batch_size": 4, "crops": 1, "view": 28, "patch": 7}


def square(colour: str, draw: random.Random) -> Image.Image:
    """A square somewhere, its colour and the paper's a little off."""
    shade = lambda channel: min(255, max(0, channel + draw.randint(-20, 20)))  # noqa: E731
    image = Image.new("RGB", (32, 32), tuple(shade(245) for _ in range(3)))
    left, top, side = draw.randint(0, 14), draw.randint(0, 14), draw.randint(10, 17)
    ImageDraw.Draw(image).rectangle((left, top, left + side, top + side), fill=tuple(map(shade, COLOURS[colour])))
    return image


def ask(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def say(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def write_pictures(folder: Path, pictures: int = 48, seed: int = 0) -> Path:
    """Fill a folder: images/, captions, chats and preferences (each for train and heldout), tokenizer/."""
    draw = random.Random(seed)
    (folder / "images").mkdir()
    texts = []
    for part, count in (("train", pictures), ("heldout", pictures // 4)):
        drawn = []
        for i in range(count):
            colour = NAMES[i % len(NAMES)]
            square(colour, draw).save(folder / "images" / f"{part}-{i}.png")
            drawn.append((f"images/{part}-{i}.png", colour))
        for kind, rows in rows_about(drawn, draw).items():
            lines = [json.dumps(row) for row in rows]
            (folder / f"{kind}-{part}.jsonl").write_text("".join(line + "\n" for line in lines))
            texts += lines
    (folder / "tokenizer").mkdir()
    save_tokenizer(train_bpe(texts, vocab_size=300), folder / "tokenizer")
    return folder


def rows_about(drawn: list[tuple[str, str]], draw: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Captions, chats with one, two or no image, and preferences."""
    captions: list[dict[str, Any]] = [{"image": image, "text": f"A {colour} square."} for image, colour in drawn]
    captions.append({"text": "Squares have four sides."})
    chats: list[dict[str, Any]] = [{"messages": [ask("How many sides has a square?"), say("Four.")]}]
    pairs: list[dict[str, Any]] = []
    for image, colour in drawn:
        other, second = draw.choice(drawn)
        chats.append({"messages": [ask("<|image_1|>\nWhich colour?"), say(colour)], "images": [image]})
        both = [ask("<|image_1|>\n<|image_2|>\nWhich colours?"), say(f"{colour} {second}")]
        chats.append({"messages": both, "images": [image, other]})
        wrong = NAMES[(NAMES.index(colour) + 1) % len(NAMES)]
        prompt = [ask("<|image_1|>\nWhich colour?")]
        pairs.append({"prompt": prompt, "chosen": [say(colour)], "rejected": [say(wrong)], "images": [image]})
    return {"captions": captions, "chats": chats, "pairs": pairs}


def recipe(kind: str, data: str, **changes: Any) -> dict[str, Any]:
    """A recipe on one kind of those files; `changes` are keys of the recipe to replace."""
    files = {part: f"{kind}-{part}.jsonl" for part in ("train", "heldout")}
    made = json.loads(json.dumps(RECIPE))
    return {**made, "data": {"class_path": data, "init_args": {**DATA, **files}}, **changes}


def write_recipe(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path
