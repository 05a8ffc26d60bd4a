"""APPS.md: each app's part says what this bundle is, and says so where an app cannot have it."""

from __future__ import annotations

from typing import Any

import pytest

from phi3kit.export.apps import instructions

TEMPLATE = {
    "begin": "",
    "user": "<|user|>{content}<|end|>",
    "answer": "<|assistant|>",
    "next": "<|end|><|user|>{content}<|end|><|assistant|>",
}
NEWLINES = {
    "begin": "<|endoftext|>",
    "user": "<|user|>\n{content}<|end|>\n",
    "answer": "<|assistant|>\n",
    "next": "<|end|>\n<|user|>\n{content}<|end|>\n<|assistant|>\n",
}


def page(**changed: Any) -> str:
    about: dict[str, Any] = {"name": "tiny", "model": "phi4_tiny.pte", "tokenizer": "tokenizer.json"}
    about |= {"tokenizer_config": "tokenizer_config.json", "template": TEMPLATE, "context": 4096, "remembers": 4096}
    about |= {"stop": {"tokens": ["<|end|>", "<|endoftext|>"], "ids": [32007, 32000]}, "notes": []}
    about |= {"bytes": {"program": 1_982_000_000}, "versions": {"executorch": "1.4.1"}}
    about |= {"program": {"delegates": ["XnnpackBackend"]}}
    return instructions(about | changed, "ab" * 32)


def test_what_fits_everywhere():
    text = page()
    assert "`phi4_tiny.pte` (1,982.0 MB). Conversations of 4,096 tokens" in text
    assert "org.pytorch:executorch-android:1.4.1" in text
    assert "without a newline at its end:\n\n```text\n<|end|><|user|>{{ user_prompt }}<|end|><|assistant|>\n```" in text
    assert "After 768 tokens in all" in text
    assert "`<|user|>…<|end|><|assistant|>`, is this model's." in text
    assert "stop at the ids 32007, 32000" in text
    for absent in ("**Note**", "resetOnTurn", "modalities", "⏎", "not see", "None"):
        assert absent not in text
    assert max(map(len, text.splitlines())) < 140


def test_a_template_with_newlines():
    text = page(template=NEWLINES)
    assert (
        "with the newline at its end:\n\n```text\n<|end|>\n<|user|>\n{{ user_prompt }}<|end|>\n<|assistant|>\n```"
        in text
    )
    assert "is **not** this model's" in text
    assert "first question: `<|endoftext|><|user|>⏎{content}<|end|>⏎<|assistant|>⏎`" in text
    assert "(⏎ is a newline)" in text


def test_a_short_context_that_slides():
    text = page(context=512, remembers=64)
    assert "After 512 tokens in all" in text
    assert "pass `resetOnTurn: true`" in text
    assert "resetOnTurn" not in page()


def test_a_model_that_sees():
    text = page(vision={"crops": [2, 2], "channels": 3, "height": 672, "width": 336, "tokens": 757})
    assert "modalities: ['image']," in text
    assert "targetShape: [3, 672, 336]," in text
    assert text.count("It can talk, but not see") == 2


def test_notes_are_told():
    assert "**Note**: all 16 experts run for every token." in page(notes=["all 16 experts run for every token"])


@pytest.mark.parametrize(
    ("delegate", "android", "ios"),
    [
        ("VulkanBackend", "*Backend*: VULKAN; link `org.pytorch:executorch-android-vulkan`", "Not for iOS"),
        ("CoreMLBackend", "Not for Android: its runtimes have no CoreMLBackend", "1. Build it in Xcode"),
    ],
)
def test_other_delegates(delegate, android, ios):
    text = page(program={"delegates": [delegate]})
    assert android in text
    assert ios in text.partition("## etLLM")[2]
