"""Every model's own recipes train: pretraining, long context, chats, preferences, in turn, with the net shrunk.

Only sizes, files and steps are replaced; components, phases, optimizers and what starts from what are the recipes'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from arithmetic import write_arithmetic
from recipe_folders import LISTS, RECIPES, content, need_plugin, steps
from safetensors.torch import load_file

from phi3kit.cli import main
from phi3kit.corpus import JSONLines, Length
from phi3kit.corpus.preparation import Preparation
from phi3kit.corpus.progress import Progress
from phi3kit.text import load_tokenizer

CONTEXT, EXTENDED, HEAD = 32, 64, 16
ALWAYS = ["phi4-mini"]  # partial rotation, tied, grouped: the others take minutes together
MODELS = ["phi3-mini", "phi35-mini", "phi3-medium", "phi4-mini-reasoning", "phi3-small", "phi35-moe", "phi-tiny-moe"]
FACTORS = {"short_factor": 1.0, "long_factor": 2.0}


def small(section: dict[str, Any]) -> dict[str, Any]:
    """What replaces a net's sizes; as many query heads to a key as the real one has."""
    dims = section["dims"]
    ratio = dims["n_heads"] // dims.get("n_kv_heads", dims["n_heads"])
    extended = section["position"]["class_path"] == "LongRoPE"
    sizes = {
        "vocab_size": 320, "hidden_size": 4 * HEAD, "n_layers": 2, "n_heads": 4, "n_kv_heads": max(1, 4 // ratio),
        "head_dim": HEAD, "intermediate_size": 48, "context": EXTENDED if extended else CONTEXT,
    }  # fmt: skip
    net: dict[str, Any] = {"dims": sizes}
    if extended:
        options = section["position"]["init_args"]
        pairs = int(HEAD * options.get("rotary_fraction", 1.0)) // 2
        lists = {name: [FACTORS[name]] * pairs for name in LISTS}
        net["position"] = {"init_args": {"original_context": CONTEXT, **lists}}
    if section.get("unused_ids"):
        net["unused_ids"] = [319]
    return net


def data(section: dict[str, Any]) -> dict[str, Any]:
    """What replaces the data's files and sizes."""
    kind = section["class_path"]
    context = EXTENDED if section["init_args"]["context"] > 8192 else CONTEXT
    options: dict[str, Any] = {"context": max(context, 48) if kind != "TokenStream" else context, "batch_size": 2}
    if kind == "TokenStream":
        options |= {"folder": "data", "heldout_batches": 4}
    else:
        file = "chat.jsonl" if kind == "ConversationBatches" else "preferences.jsonl"
        options |= {"train": file, "heldout": file, "heldout_batches": 4}
    return {"init_args": options}


def prepare(folder: Path) -> None:
    """Tokens of both parts, of the arithmetic that the chats are about."""
    rows = [json.loads(line)["messages"] for line in (folder / "chat.jsonl").read_text().splitlines()]
    texts = [" ".join(m["content"] for m in messages) for messages in rows] * 4
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": f"{t} {i}"}) + "\n" for i, t in enumerate(texts)))
    Preparation(
        readers=[JSONLines(str(folder / "texts.jsonl"))],
        stricter=[Length(shortest=1)],
        tokenizer=load_tokenizer(folder / "tokenizer"),
        holdout=0.2,
    ).run(folder / "data", Progress(quiet=True))


def layer(file: Path, folder: Path, made: set[str]) -> Path:
    """The layer that shrinks a recipe."""
    merged = content(file)
    replaced: dict[str, Any] = {
        "net": small(merged["net"]),
        "rows_per_step": 4,
        "data": data(merged["data"]),
        "phase": {"init_args": {"optimizer": {"init_args": {"lr": 3.0e-3}}, "schedule": {"warmup_steps": 1}}},
        "trainer": {"max_steps": 6, "accelerator": "cpu", "callbacks": None},
    }
    if "tokenizer" in merged:
        replaced["tokenizer"] = "tokenizer"
    elif merged["start_from"] not in made:  # another folder's run
        replaced |= {"start_from": None, "tokenizer": "tokenizer"}
    path = folder / f"{file.stem}.small.yaml"
    path.write_text(yaml.safe_dump(replaced))
    return path


@pytest.mark.parametrize("model", [*ALWAYS, *(pytest.param(model, marks=pytest.mark.slow) for model in MODELS)])
def test_the_recipes_of_a_model_train_one_after_another(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_plugin(RECIPES / model)
    write_arithmetic(tmp_path)
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    trained, made = [], set()
    for file in steps(RECIPES / model):
        merged = content(file)
        if merged["verb"] != "fit":
            continue
        assert main(["fit", "--recipe", str(file), "--recipe", str(layer(file, tmp_path, made))]) == 0
        out = tmp_path / merged["out"]
        report = json.loads((out / "report.json").read_text())
        assert report["after"]["loss"] < report["before"]["loss"], file.name
        if merged.get("start_from") in made:
            before, after = (load_file(tmp_path / run / "model.safetensors") for run in (merged["start_from"], out))
            assert before.keys() == after.keys()
            still = [name for name in after if torch.equal(before[name], after[name])]
            assert not still, f"{file.name}: these did not learn: {still}"
        made.add(merged["out"])
        trained.append(file.name[0])
    assert {"5", "6"} < set(trained)
