"""`preview` shows what a batch holds: every token once, the loss where the labels have it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from phi3kit import cli
from phi3kit.corpus import ConversationFile, JSONLines, Preparation, Progress
from phi3kit.testing import tiny
from phi3kit.verbs.preview import pieces

RECIPE = """
verb: fit
tokenizer: {data}/tokenizer
net:
  dims: {{vocab_size: 512, hidden_size: 32, n_layers: 1, n_heads: 2}}
  attention: [{{class_path: GroupedQueryAttention}}]
  feed_forward: [{{class_path: GatedMLP}}]
  position: {{class_path: RoPE}}
phase:
  class_path: NextToken
  init_args: {{optimizer: {{class_path: torch.optim.AdamW, init_args: {{lr: 0.001}}}}}}
data:
  class_path: {batches}
  init_args: {{{options}, context: 64, batch_size: 3}}
trainer: {{accelerator: cpu, max_steps: 1}}
"""


def test_images_are_told_not_spelled():
    tokenizer = tiny.tokenizer()
    before, after = tokenizer.encode("See "), tokenizer.encode(" the lamp.")
    shown = pieces([*before, -1, -1, -1, -2, -2, *after], tokenizer)
    assert len(shown) == len(before) + 5 + len(after)
    assert "".join(shown) == "See [image 1: 3 rows][image 2: 2 rows] the lamp."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("preview")
    rows = [{"id": d.id, "text": d.text} for d in tiny.documents()]
    (root / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    chats = [
        {
            "id": str(i),
            "messages": [
                {"role": "user", "content": f"What is <|end|> {i}?"},
                {"role": "assistant", "content": f"It is text, {i} é."},
            ],
        }
        for i in range(20)
    ]
    (root / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    Preparation(
        readers=[JSONLines(str(root / "docs.jsonl"), id_field="id")],
        conversations=[ConversationFile(str(root / "chats.jsonl"), holdout=0.3)],
        tokenizer=tiny.tokenizer(),
        holdout=0.2,
    ).run(root / "data", Progress(quiet=True))
    return root / "data"


def preview(recipe: str, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    file = folder / "fit.yaml"
    file.write_text(recipe)
    code = cli.main(["preview", "--recipe", str(file), *options])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def test_a_chat_shows_loss_on_its_answers_only(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = f"train: {data}/chat/train.jsonl, heldout: {data}/chat/heldout.jsonl"
    recipe = RECIPE.format(data=data, batches="ConversationBatches", options=files)
    for part in ("train", "heldout"):
        shown = preview(recipe, tmp_path, capsys, "--part", part, "--rows", "1")
        chats = re.findall(r"\[\d+\] (.*)", shown)
        assert chats
        for chat in chats:
            (number,) = set(re.findall(r"<\|end\|> (\d+)\?", chat))
            assert chat == f"<|user|>What is <|end|> {number}?<|end|><|assistant|>«It is text, {number} é.<|end|>»"


def test_a_stream_shows_loss_everywhere_but_at_beginnings(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPE.format(data=data, batches="TokenStream", options=f"folder: {data}, part: web")
    shown = preview(recipe, tmp_path, capsys, "--rows", "3")
    assert shown.count("\nrow ") == 3
    assert re.search(r"row 0: 64 tokens, (\d+) carry loss", shown)
    opened = shown.count("«") - 1  # one in the legend
    assert opened == shown.count("»") - 1 == len(re.findall(r"^\[\d+\]", shown, re.MULTILINE))
    first = [preview(recipe, tmp_path, capsys, "--batch", n, "--rows", "1") for n in ("0", "0", "1")]
    assert first[0] == first[1] != first[2]


def test_mistakes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = RECIPE.format(data=data, batches="TokenStream", options=f"folder: {data}, part: web")
    file = tmp_path / "fit.yaml"
    for change, message in (
        (("part: web", "part: nowhere"), "there are no tokens at"),
        (("tokenizer:", "#"), "the recipe lacks tokenizer"),
    ):
        file.write_text(recipe.replace(*change))
        assert cli.main(["preview", "--recipe", str(file)]) == 2
        assert message in capsys.readouterr().err
    files = f"train: {data}/chat/train.jsonl, heldout: {data}/chat/heldout.jsonl"
    file.write_text(RECIPE.format(data=data, batches="ConversationBatches", options=files))
    assert cli.main(["preview", "--recipe", str(file), "--part", "heldout", "--batch", "999"]) == 2
    assert "there is no batch 999 of heldout" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["plain words", "é 東京 🙂 end", "a\x1b[31mred", "two\nlines"])
def test_pieces_join_to_the_text(text: str) -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer.encode(text)
    shown = pieces(ids, tokenizer)
    assert len(shown) == len(ids)
    assert "".join(shown) == text.replace("\n", "↵\n").replace("\x1b", "\ufffd")
