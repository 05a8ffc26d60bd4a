"""What quantizers are fitted to: chunks, documents or conversations, in whole rows; and a budget in `export`."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from quantized_nets import rows_of_text

from phi3kit import Message, UserError
from phi3kit.export.calibration import quantize_net
from phi3kit.export.device import for_device
from phi3kit.export.stream import Stream
from phi3kit.export.survey import survey
from phi3kit.model.source import RandomSource, whole_net
from phi3kit.quantizers import MixedPrecision
from phi3kit.testing import tiny
from phi3kit.text import read_conversations
from phi3kit.text.template import render
from phi3kit.verbs.calibration_text import rows_of
from phi3kit.verbs.export_order import _quantizer

NET = """
dims: {vocab_size: 96, hidden_size: 64, n_layers: 2, n_heads: 4, n_kv_heads: 2, intermediate_size: 128, context: 64}
attention: [{class_path: GroupedQueryAttention}]
feed_forward: [{class_path: GatedMLP}]
position: {class_path: RoPE}
init_std: 0.2
"""


def test_documents_and_conversations_are_cut_into_rows(tmp_path):
    tokenizer = tiny.tokenizer()
    texts = [document.text for document in tiny.documents()]
    documents = tmp_path / "documents.jsonl"
    documents.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ids = [id for text in texts for id in tokenizer.encode(text)]
    rows = rows_of(documents, tokenizer, 32, 10**6)
    assert torch.cat(rows).tolist() == ids[: len(rows) * 32]
    assert len(rows) == len(ids) // 32
    assert len(rows_of(documents, tokenizer, 32, 64)) == 2
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": texts[0]}, {"role": "assistant", "content": texts[1]}]
    chats.write_text(json.dumps({"messages": turns}) + "\n")
    (row,) = rows_of(chats, tokenizer, 40, 40)
    assert row.tolist() == render(read_conversations(chats)[0].messages, tokenizer).ids[:40]


def test_other_dialects_calibrate_and_one_bad_row_costs_that_row(tmp_path, capsys):
    tokenizer = tiny.tokenizer()
    rows = [{"instruction": "q", "output": "some answer"}, {"text": "half \ud83d"}, {"text": None}, {"text": "a text"}]
    rows += [{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "some answer"}]}]
    (tmp_path / "x.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chat = render([Message("user", "q"), Message("assistant", "some answer")], tokenizer).ids
    ids = [*chat, *tokenizer.encode("a text"), *chat]
    (row,) = rows_of(tmp_path / "x.jsonl", tokenizer, len(ids), len(ids))
    assert row.tolist() == ids
    said = capsys.readouterr().err
    assert "2 of 5 rows cannot be used" in said
    assert "x.jsonl:2: text is not Unicode at character 5" in said


def test_what_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "x.jsonl"
    with pytest.raises(UserError, match=r"calibration: there is nothing at .*x\.jsonl; give a folder"):
        rows_of(file, tiny.tokenizer(), 32, 64)
    file.write_text('{"body": "a"}\n')
    with pytest.raises(UserError, match=r"""x\.jsonl:1: has \['body'\], neither "text" nor a conv"""):
        rows_of(file, tiny.tokenizer(), 32, 64)
    file.write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match="holds fewer than 32 tokens"):
        rows_of(file, tiny.tokenizer(), 32, 64)


def test_a_streamed_survey_chooses_what_one_in_memory_does(tmp_path):
    source, rows = RandomSource(yaml.safe_load(NET), 0), rows_of_text()[:6]
    streamed, whole = MixedPrecision("150KB"), MixedPrecision("150KB")
    survey(source, streamed, rows)
    net = whole_net(source)
    for_device(net)  # a stream quantizes what a device computes: queries, keys and values each on their own
    quantize_net(net, whole, rows)
    got = Stream(source, streamed, tmp_path / "parts", rows).run()
    assert streamed.describe() == whole.describe()
    assert len({layer["bits"] for layer in whole.describe()["layers"].values()}) == 2
    with torch.no_grad():
        assert torch.equal(got(rows[0][None]), net(rows[0][None]))


def test_a_budget_stands_in_for_the_recipes_quantizer():
    assert _quantizer(None, None, 0) is None
    assert _quantizer(None, "2MB", 1000).max_size == "2MB"
    own = MixedPrecision("1MB", damping=0.1)
    assert _quantizer(own, "2MB", 1000) is own
    assert own.max_bytes == 2_000_000
