"""SFT and DPO losses and gradients against TRL's, given identical ids, labels and weights (fp32, to 1e-5)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from phi3kit import Decoder, Dims
from phi3kit.model import GatedMLP, GroupedQueryAttention, RoPE, weights
from phi3kit.phases import DPO, NextToken
from phi3kit.phases.collate import Supervised, packed_batch
from phi3kit.records import Batch
from phi3kit.text import save_tokenizer, train_bpe

TOLERANCE = 1e-5
VOCAB = 300


@pytest.fixture(scope="module")
def nets() -> tuple[Phi3ForCausalLM, Decoder]:
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, max_position_embeddings=64,
        original_max_position_embeddings=64, sliding_window=None, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        initializer_range=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    theirs = Phi3ForCausalLM(config)
    dims = Dims(VOCAB, 64, 2, 4, 2, intermediate_size=96, context=64)
    ours = Decoder(dims, [GroupedQueryAttention], [GatedMLP], RoPE)
    ours.load_state_dict({weights.from_hugging_face(k): v for k, v in theirs.state_dict().items()})
    return theirs, ours


@pytest.fixture(scope="module")
def fast_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_bpe(["the quick brown fox jumps over the lazy dog"], vocab_size=VOCAB), folder)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


def sequences(lengths: list[int], answer_from: list[int], seed: int = 0) -> list[Supervised]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Supervised(
            torch.randint(5, VOCAB, (length,), generator=generator).tolist(),
            [i >= start for i in range(length)],
        )
        for length, start in zip(lengths, answer_from, strict=True)
    ]


def optimizer(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def gradients(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {weights.from_hugging_face(name): p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_same_gradients(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    expected, found = gradients(theirs), gradients(ours)
    assert expected.keys() == found.keys()
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-3
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=TOLERANCE, rtol=0, msg=name)


def padded(rows: list[Supervised]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(ids, attention mask, labels), right-padded, as Hugging Face wants them: labels not shifted."""
    width = max(len(r.ids) for r in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n], mask[i, :n] = torch.tensor(row.ids), 1
        labels[i, :n] = torch.where(torch.tensor(row.supervised), ids[i, :n], -100)
    return ids, mask, labels


@pytest.mark.parametrize("packed", [False, True])
def test_sft_loss_and_gradients(
    nets: tuple[Phi3ForCausalLM, Decoder],
    fast_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    packed: bool,
) -> None:
    theirs, ours = copy.deepcopy(nets)
    rows = sequences([12, 7, 9], [6, 3, 4])
    arguments = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to=[], bf16=False, gradient_checkpointing=False
    )
    data = Dataset.from_list([{"text": "the quick brown fox"}])
    trainer = SFTTrainer(theirs, arguments, train_dataset=data, processing_class=fast_tokenizer)
    if packed:
        ids = torch.tensor([[i for r in rows for i in r.ids]])
        labels = torch.tensor(
            [[t if s and n else -100 for r in rows for n, (t, s) in enumerate(zip(r.ids, r.supervised, strict=True))]]
        )
        positions = torch.tensor([[n for r in rows for n in range(len(r.ids))]])
        inputs = {"input_ids": ids, "labels": labels, "position_ids": positions}
        batch = packed_batch([rows], 0, [0])
    else:
        ids, mask, labels = padded(rows)
        inputs = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        batch = packed_batch([[r] for r in rows], 0, [0, 1, 2])
    trainer.model.zero_grad()
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    loss = NextToken(ours, optimizer).compute(batch)
    mean = loss.total / loss.count
    mean.backward()
    assert loss.count == sum(sum(r.supervised) for r in rows)
    assert float(mean.detach()) == pytest.approx(float(expected.detach()), abs=TOLERANCE)
    assert_same_gradients(trainer.model, ours)


def dpo_rows() -> tuple[list[Supervised], list[Supervised]]:
    """Chosen and rejected answers to the same prompts."""
    prompts = [r.ids for r in sequences([5, 4, 6], [5, 4, 6], seed=1)]
    chosen = sequences([4, 6, 3], [0, 0, 0], seed=2)
    rejected = sequences([5, 2, 6], [0, 0, 0], seed=3)

    def join(prompt: list[int], answer: Supervised) -> Supervised:
        return Supervised(prompt + answer.ids, [False] * len(prompt) + answer.supervised)

    pairs = [(join(p, c), join(p, r)) for p, c, r in zip(prompts, chosen, rejected, strict=True)]
    return [c for c, _ in pairs], [r for _, r in pairs]


def dpo_batch(chosen: list[Supervised], rejected: list[Supervised]) -> Batch:
    rows = [[s] for pair in zip(chosen, rejected, strict=True) for s in pair]
    return packed_batch(rows, 0, list(range(len(chosen))))


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_loss_and_gradients(
    nets: tuple[Phi3ForCausalLM, Decoder], fast_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, beta: float
) -> None:
    theirs, ours = copy.deepcopy(nets)
    reference = copy.deepcopy(theirs)
    phase = DPO(ours, optimizer, beta=beta)
    phase.setup("fit")
    torch.manual_seed(3)
    with torch.no_grad():  # a policy that has moved away from its reference
        noise = {name: 0.02 * torch.randn_like(p) for name, p in ours.named_parameters()}
        for name, p in ours.named_parameters():
            p.add_(noise[name])
        for name, p in theirs.named_parameters():
            p.add_(noise[weights.from_hugging_face(name)])
    arguments = DPOConfig(
        output_dir=str(tmp_path), use_cpu=True, report_to=[], beta=beta, bf16=False, gradient_checkpointing=False
    )
    data = Dataset.from_list([{"prompt": "the quick", "chosen": " brown", "rejected": " fox"}])
    trainer = DPOTrainer(theirs, reference, arguments, train_dataset=data, processing_class=fast_tokenizer)
    chosen, rejected = dpo_rows()
    ids, mask, labels = padded(chosen + rejected)
    inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": (labels != -100).long()}
    trainer.model.zero_grad()
    expected = trainer.compute_loss(trainer.model, inputs)
    expected.backward()
    loss = phase.compute(dpo_batch(chosen, rejected))
    mean = loss.total / loss.count
    mean.backward()
    assert float(mean.detach()) == pytest.approx(float(expected.detach()), abs=TOLERANCE)
    assert abs(float(mean.detach()) - 0.6931) > 1e-3
    assert_same_gradients(trainer.model, ours)


def test_dpo_of_equal_answers_is_the_logarithm_of_two(nets: tuple[Phi3ForCausalLM, Decoder]) -> None:
    phase = DPO(copy.deepcopy(nets[1]), optimizer)
    phase.setup("fit")
    chosen, _ = dpo_rows()
    loss = phase.compute(dpo_batch(chosen, chosen))
    assert float(loss.total / loss.count) == pytest.approx(0.6931472, abs=1e-6)


def test_dpo_does_not_depend_on_padding_or_order(nets: tuple[Phi3ForCausalLM, Decoder]) -> None:
    phase = DPO(copy.deepcopy(nets[1]), optimizer)
    phase.setup("fit")
    with torch.no_grad():
        for p in phase.net.parameters():
            p.mul_(1.05)
    chosen, rejected = dpo_rows()
    together = phase.compute(dpo_batch(chosen, rejected))
    alone = sum(float(phase.compute(dpo_batch([c], [r])).total) for c, r in zip(chosen, rejected, strict=True))
    reverse = phase.compute(dpo_batch(chosen[::-1], rejected[::-1]))
    assert float(together.total) == pytest.approx(alone, abs=TOLERANCE)
    assert float(together.total) == pytest.approx(float(reverse.total), abs=TOLERANCE)
