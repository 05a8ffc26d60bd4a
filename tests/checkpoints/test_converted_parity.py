"""What a conversion gives computes what transformers does, whichever way it went."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from public_checkpoints import BASE, MODELS, write_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from phi3kit.checkpoints import convert
from phi3kit.model import Phi3Layout, weights
from phi3kit.model.generate import generate
from phi3kit.model.load import build_net, load_run
from phi3kit.records import Message
from phi3kit.testing import tiny
from phi3kit.text import load_tokenizer, render, save_tokenizer

RELATIVE = 1e-4
BFLOAT16_STEP = 2**-8  # relative distance of neighbours
SWITCH = 32  # LongRoPE's original context in these configs

# transformers masks `key > query - sliding_window`: 31 lets a token see 31, itself included. The model was trained with
# one more (see Phi3Layout), so that longer texts differ: the window is written down and pinned below.
UNBOUND = {name: {**config, "sliding_window": None} for name, config in MODELS.items()}


def opened(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def called_longrope(config):
    """The same config with the April release's "su" under its later name, which transformers 5.23 wants."""
    scaling = config["rope_scaling"]
    return {**config, "rope_scaling": scaling and {**scaling, "type": "longrope"}}


def tokens(length, rows=2, seed=0):
    return torch.randint(0, 288, (rows, length), generator=torch.Generator().manual_seed(seed + length))


def relative_difference(theirs, ours, length):
    with torch.no_grad():
        wanted, got = theirs(tokens(length)).logits, ours(tokens(length))
    return float((wanted - got).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_a_public_folder_gives_the_logits_of_transformers(name, tmp_path):
    """In fp32, under, at and over LongRoPE's switch."""
    public = write_checkpoint(tmp_path / "public", UNBOUND[name])
    convert(public, tmp_path / "run")
    spelled = write_checkpoint(tmp_path / "spelled", called_longrope(UNBOUND[name]))
    theirs, ours = opened(spelled), load_run(tmp_path / "run", torch.float32)
    assert ours.parameter_count() == theirs.num_parameters()
    for length in (7, SWITCH - 1, SWITCH, SWITCH + 1, 128):
        assert relative_difference(theirs, ours, length) <= RELATIVE, length


@pytest.mark.parametrize("name", MODELS)
def test_what_is_written_opens_in_transformers(name, tmp_path):
    """A run that never was public: config.json and all files are made for it."""
    run = tmp_path / "run"
    run.mkdir()
    section = Phi3Layout().net(UNBOUND[name])
    torch.manual_seed(0)
    net = build_net({**section, "init_std": 0.12}).eval()
    weights.save(net, run)
    (run / "config.yaml").write_text(json.dumps({"verb": "fit", "net": section}))
    save_tokenizer(tiny.tokenizer(288), run / "tokenizer")
    convert(run, tmp_path / "public")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "public", attn_implementation="eager").eval()
    assert theirs.dtype == torch.float32
    for length in (7, SWITCH, SWITCH + 1, 128):
        assert relative_difference(theirs, net, length) <= RELATIVE, length
    ids = tiny.tokenizer(288).special_tokens
    stops = [ids["<|endoftext|>"], ids["<|assistant|>"], ids["<|end|>"]]
    assert GenerationConfig.from_pretrained(tmp_path / "public").eos_token_id == sorted(stops)
    assert theirs.config.eos_token_id == ids["<|endoftext|>"]


def test_the_april_release_opens_in_transformers_only_when_it_is_made_anew(tmp_path):
    """transformers 5.23 misses the original context of a config that says "su", as Phi-3-mini-128k's first does."""
    public = write_checkpoint(tmp_path / "public", UNBOUND["mini-128k-april"])
    with pytest.raises(KeyError, match="original_max_position_embeddings"):
        opened(public)
    convert(public, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "hugging_face")
    convert(tmp_path / "run", tmp_path / "made")
    assert relative_difference(opened(tmp_path / "made"), load_run(tmp_path / "run", torch.float32), 40) <= RELATIVE


def test_the_window_is_one_token_more_than_transformers_sees(tmp_path):
    """config.json's 31 means 32 tokens, as Phi-3 was trained (FlashAttention's count leaves the token itself out);
    transformers 5.23 lets a token see 31. Up to 31 tokens both agree; with 32 written for it, always."""
    public = write_checkpoint(tmp_path / "public", MODELS["mini-4k"])
    convert(public, tmp_path / "run")
    theirs, ours = opened(public), load_run(tmp_path / "run", torch.float32)
    assert ours.layers[0].self_attn.mix.window == 32
    assert relative_difference(theirs, ours, 31) <= RELATIVE
    assert relative_difference(theirs, ours, 128) > 1e-3
    wider = write_checkpoint(tmp_path / "wider", {**BASE, "sliding_window": 32})
    assert relative_difference(opened(wider), ours, 128) <= RELATIVE


def test_what_transformers_saves_is_read(tmp_path):
    """transformers 5 writes `rope_parameters` and `dtype`."""
    public = write_checkpoint(tmp_path / "public", UNBOUND["phi-4-mini"])
    theirs = opened(public, torch.bfloat16)
    theirs.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "rope_parameters" in saved
    assert "rope_scaling" not in saved
    convert(tmp_path / "saved", tmp_path / "run")
    convert(public, tmp_path / "direct")
    ours, direct = load_run(tmp_path / "run"), load_run(tmp_path / "direct")
    with torch.no_grad():
        assert torch.equal(ours(tokens(40)), direct(tokens(40)))
    convert(tmp_path / "run", tmp_path / "wide", torch.float32)
    wide = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert wide == {**saved, "dtype": "float32"}


@pytest.mark.parametrize("name", ["mini-4k", "mini-128k", "phi-4-mini"])
def test_greedy_tokens_in_bfloat16(name, tmp_path):
    """Equal, except where the two best logits are closer than a step of bfloat16."""
    public = write_checkpoint(tmp_path / "public", UNBOUND[name])
    convert(public, tmp_path / "run")
    theirs, ours = opened(public, torch.bfloat16), load_run(tmp_path / "run")
    assert ours.embed_tokens.weight.dtype == torch.bfloat16
    compared = 0
    for seed in range(6):
        ids = tokens(24, rows=1, seed=seed)
        for got in generate(ours, ids[0].tolist(), max_new_tokens=20):
            with torch.no_grad():
                logits = theirs(ids).logits[0, -1].float()
            best, second = logits.topk(2).values
            if best - second <= 2 * BFLOAT16_STEP * best.abs():
                break
            assert got == int(logits.argmax()), (seed, ids.shape)
            compared += 1
            ids = torch.cat((ids, torch.tensor([[got]])), dim=1)
    assert compared > 30


CHATS = [
    [Message("user", "Hello")],
    [
        Message("system", "Be brief."),
        Message("user", "1+1=2?\n\n  x"),
        Message("assistant", " 2 "),
        Message("user", ""),
    ],
    [Message("system", ""), Message("user", "naïve 東京 🙂"), Message("assistant", "a\n"), Message("user", "\nb")],
]


def written_tokenizer(tokenizer, tmp_path):
    """What a run with this tokenizer writes for transformers."""
    run = tmp_path / "run"
    run.mkdir()
    section = Phi3Layout().net({**BASE, "vocab_size": tokenizer.vocab_size, "hidden_size": 16, "sliding_window": None})
    weights.save(build_net(section), run)
    (run / "config.yaml").write_text(json.dumps({"verb": "fit", "net": section}))
    save_tokenizer(tokenizer, run / "tokenizer")
    convert(run, tmp_path / "public")
    return tmp_path / "public"


def check_chats(tokenizer, folder):
    theirs = AutoTokenizer.from_pretrained(folder)
    for chat in CHATS:
        messages = [{"role": message.role, "content": message.content} for message in chat]
        for generation in (True, False):
            wanted = render(chat, tokenizer, generation=generation).ids
            got = theirs.apply_chat_template(messages, add_generation_prompt=generation, return_dict=False)
            assert got == wanted, (chat, generation)


def test_the_chat_template_gives_our_ids(tmp_path):
    tokenizer = tiny.tokenizer()
    check_chats(tokenizer, written_tokenizer(tokenizer, tmp_path))


@pytest.mark.parametrize("name", ["phi-3-mini/tokenizer.json", "phi-3-vision/tokenizer.json"])
def test_the_chat_template_gives_our_ids_with_the_public_tokenizers(tmp_path, shared_data, name):
    """Phi-3-vision's opens with <s>, Phi-3-mini's role tokens swallow white space."""
    from phi3kit.text import HuggingFaceTokenizer

    tokenizer = HuggingFaceTokenizer(str(shared_data / "tokenizers" / name))
    check_chats(tokenizer, written_tokenizer(tokenizer, tmp_path))


@pytest.mark.slow  # half a minute: merges are found from 100,256 ranks
def test_tiktoken_is_written_as_a_tokenizer_json_too(tmp_path, shared_data):
    from phi3kit.text import Cl100kTokenizer

    tokenizer = Cl100kTokenizer(str(shared_data / "tokenizers" / "phi-3-small" / "cl100k_base.tiktoken"))
    folder = written_tokenizer(tokenizer, tmp_path)
    check_chats(tokenizer, folder)
    assert (folder / "cl100k_base.tiktoken").is_file()
    convert(folder, tmp_path / "again")
    assert load_tokenizer(tmp_path / "again" / "tokenizer").special_tokens == tokenizer.special_tokens
