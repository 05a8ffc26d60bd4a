"""Shared by all tests: importable lightning and transformers, the optional real data, quiet logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes share the cores already
os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")

from phi3kit import torchvision_ops

torchvision_ops.declare()

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data kept beside the checkout; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data folder beside the checkout, which is absent here")
    return folder


@pytest.fixture
def arithmetic(tmp_path: Path) -> Path:
    """A folder with a seconds-long training recipe and its data (see arithmetic.py)."""
    from arithmetic import write_arithmetic

    return write_arithmetic(tmp_path)


MEMORISED = {
    "What is a prime?": "A number with two divisors.",
    "Why is the sky blue?": "Air scatters short waves of light.",
    "How do I sort a list?": "Split it in two, sort each half, merge the halves.",
    "What does len return?": "The number of items.",
    "Who pays 12 €?": "Élodie, in Zürich. 🙂",
    "Name a city.": "東京",
}


@pytest.fixture(scope="session")
def memorised() -> dict[str, str]:
    """Questions that `tiny_run` was taught, and their answers."""
    return MEMORISED


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: two layers, grouped heads, LongRoPE's long list, a few answers learned by heart."""
    import torch
    import yaml

    from phi3kit.model import weights
    from phi3kit.model.load import build_net
    from phi3kit.records import Message
    from phi3kit.testing import tiny
    from phi3kit.text import render, save_tokenizer

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    tokenizer = tiny.tokenizer()
    section = {
        "dims": {
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": 64,
            "n_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 2,
        }
        | {"intermediate_size": 128, "context": 128},
        "attention": [{"class_path": "GroupedQueryAttention"}],
        "feed_forward": [{"class_path": "GatedMLP"}],
        "position": {
            "class_path": "LongRoPE",
            "init_args": {"short_factor": [1.0] * 8, "long_factor": [1 + i / 4 for i in range(8)]}
            | {"original_context": 32, "use": "long"},
        },
    }
    torch.manual_seed(0)
    net = build_net(section)
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0.0)
    chats = [
        render([Message("user", question), Message("assistant", answer)], tokenizer)
        for question, answer in MEMORISED.items()
    ]
    for _ in range(60):
        loss = torch.tensor(0.0)
        for chat in chats:
            labels = torch.tensor([i if s else -100 for i, s in zip(chat.ids, chat.supervised, strict=True)])
            logits = net(torch.tensor([chat.ids]))[0]
            loss = loss + torch.nn.functional.cross_entropy(logits[:-1], labels[1:]) / len(chats)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05, "the tiny net did not learn its answers"
    folder.mkdir()
    weights.save(net, folder)
    save_tokenizer(tokenizer, folder / "tokenizer")
    (folder / "config.yaml").write_text(yaml.safe_dump({"verb": "fit", "net": section}))
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: Path, memorised: dict[str, str]) -> Path:
    """`tiny_run` exported with everything an export can do (the one slow step: lowering, about 15 s)."""
    import json
    import logging

    from phi3kit.cli import main

    # pytest captures this logger too, and torch then writes its whole structured trace: twice the time
    logging.getLogger("torch.__trace").handlers.clear()
    questions = tiny_run.parent / "questions.jsonl"
    turns = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in memorised.items()
    ]
    questions.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    recipe = tiny_run.parent / "export.yaml"
    out = tiny_run.parent / "bundle"
    recipe.write_text(
        json.dumps(
            {
                "verb": "export",
                "start_from": str(tiny_run),
                "name": "tiny",
                "out": str(out),
                "quantizer": {"class_path": "Int8DynamicInt4Weight"},
                "questions": {"taught": str(questions)},
                "beside": {"itself": str(tiny_run)},
                "talk": list(memorised)[:2],
            }
        )
    )
    assert main(["export", "--recipe", str(recipe)]) == 0
    return out
