"""The tokenizers' laws, on Phi-3's own files (where they lie beside the checkout) and on one trained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers

from phi3kit.errors import UserError
from phi3kit.families import Tokenizer
from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer, load_tokenizer, save_tokenizer, train_bpe

FILES = Path(__file__).parents[3] / "shared" / "data" / "tokenizers"
MINI, VISION, SMALL = (
    FILES / "phi-3-mini/tokenizer.json",
    FILES / "phi-3-vision/tokenizer.json",
    FILES / "phi-3-small/cl100k_base.tiktoken",
)
TEXTS = [
    "",
    " ",
    "Hello",
    "  two spaces, then\ttab\n\n\nand lines \r\n",
    "def f(x):\n    return x ** 2  # naïve\n",
    "Élodie, 東京, 🙂👩‍👩‍👧, 𝔘𝔫𝔦𝔠𝔬𝔡𝔢, عربى, \u200b\ufeff\x00\x7f",
    "I'll say <|end|> and <|user|>\n<|endoftext|> <s></s><unk> [INST]",
    "1234567890 3.14159 1_000",
]
CORPUS = ["def area(width, height): return width * height\n", "The lamp turns twice a minute, <|end|>.\n"] * 40


def trained() -> Tokenizer:
    return train_bpe(CORPUS, vocab_size=300)


def make(kind: str) -> Tokenizer:
    if kind == "trained":
        return trained()
    file = {"mini": MINI, "vision": VISION, "small": SMALL}[kind]
    if not file.is_file():
        pytest.skip(f"{file} is not there (a licence question: the project ships no tokenizer)")
    return (Cl100kTokenizer if kind == "small" else HuggingFaceTokenizer)(str(file))


@pytest.fixture(params=["trained", "mini", "vision", "small"], scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return make(request.param)


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_no_text_yields_a_special_id(tokenizer: Tokenizer) -> None:
    special = set(tokenizer.special_tokens.values())
    assert len(special) >= 5
    for name in [*tokenizer.special_tokens, "".join(tokenizer.special_tokens), *TEXTS]:
        ids = tokenizer.encode(f"a {name} b")
        assert special.isdisjoint(ids), name
        assert tokenizer.decode(ids) == f"a {name} b"


def test_batch_equals_one_by_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


def test_ids_stay_below_the_vocabulary_size(tokenizer: Tokenizer) -> None:
    ids = [id for text in TEXTS for id in tokenizer.encode(text)] + list(tokenizer.special_tokens.values())
    assert max(ids) < tokenizer.vocab_size


def test_special_ids_decode_to_their_names(tokenizer: Tokenizer) -> None:
    end = tokenizer.special_tokens["<|end|>"]
    assert tokenizer.decode([*tokenizer.encode("yes"), end]) == "yes<|end|>"


def test_saved_folder_describes_itself(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path / "t")
    again = load_tokenizer(tmp_path / "t")
    assert type(again) is type(tokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode(TEXTS[4]) == tokenizer.encode(TEXTS[4])


@pytest.mark.parametrize("kind", ["mini", "vision"])
def test_ids_equal_hugging_faces(kind: str) -> None:
    ours, theirs = make(kind), tokenizers.Tokenizer.from_file(str({"mini": MINI, "vision": VISION}[kind]))
    compared = [text for text in TEXTS if "<" not in text]
    assert len(compared) == len(TEXTS) - 1
    for text in compared:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text))


def test_sizes_and_flags_of_phi3() -> None:
    mini, vision, small = make("mini"), make("vision"), make("small")
    assert (mini.vocab_size, vision.vocab_size, small.vocab_size) == (32011, 32045, 100352)
    assert {"<|user|>", "<|assistant|>", "<|system|>", "<|end|>"} <= mini.swallows_space_after
    assert "<|user|>" not in vision.swallows_space_after
    assert (mini.opens_with, vision.opens_with, small.opens_with) == (None, "<s>", "<|endoftext|>")
    assert small.special_tokens["<|dummy_0|>"] == 100256
    assert sorted(small.special_tokens.values()) == list(range(100256, 100352))


def test_training_is_deterministic_and_leaves_no_holes() -> None:
    one, two = trained(), trained()
    assert one.fingerprint == two.fingerprint
    ids = [*json.loads(one._content)["model"]["vocab"].values(), *one.special_tokens.values()]
    assert sorted(ids) == list(range(300)) == list(range(one.vocab_size))
    assert one.swallows_space_after == {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}


def test_executorchs_tokenizer_gives_equal_ids(tmp_path: Path) -> None:
    pytorch_tokenizers = pytest.importorskip("pytorch_tokenizers")
    tokenizer = trained()
    save_tokenizer(tokenizer, tmp_path)
    device = pytorch_tokenizers.CppHFTokenizer()
    device.load(str(tmp_path / "tokenizer.json"))
    for text in [text for text in TEXTS if text and "<|" not in text and "\x00" not in text]:
        assert device.encode(text, bos=0, eos=0) == tokenizer.encode(text), text
    ids = tokenizer.special_tokens
    assert device.encode("<|user|>Hi<|end|>", bos=0, eos=0) == [
        ids["<|user|>"],
        *tokenizer.encode("Hi"),
        ids["<|end|>"],
    ]


# -------------------------------------------------------------------------------------------- bad input


def write(folder: Path, **changes: object) -> Path:
    parsed = json.loads(trained()._content)  # type: ignore[attr-defined]
    parsed["model"].update(changes)
    (folder / "tokenizer.json").write_text(json.dumps(parsed))
    return folder / "tokenizer.json"


def test_a_vocabulary_that_holds_a_special_token_cannot_leak_it(tmp_path: Path) -> None:
    file = write(tmp_path)
    parsed = json.loads(file.read_text())
    parsed["model"]["vocab"]["<|end|>"] = parsed["added_tokens"][-1]["id"]
    parsed["model"]["ignore_merges"] = True
    parsed["pre_tokenizer"]["use_regex"] = False
    file.write_text(json.dumps(parsed))
    leaky = tokenizers.Tokenizer.from_str(json.dumps({**parsed, "added_tokens": []}))
    assert leaky.encode("<|end|>").ids == [299]
    tokenizer = HuggingFaceTokenizer(str(file))
    assert 299 not in tokenizer.encode("<|end|>")
    assert tokenizer.decode(tokenizer.encode("<|end|>")) == "<|end|>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"type": "Unigram"}, "holds a Unigram model"), ({"vocab": {"a": 0}, "merges": []}, "lacks some of the 256")],
)
def test_unfit_models_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HuggingFaceTokenizer(str(write(tmp_path, **changes)))


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the tokenizer '.*nowhere.json'"):
        HuggingFaceTokenizer(str(tmp_path / "nowhere.json"))
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(UserError, match=r"x\.json is not a tokenizer"):
        HuggingFaceTokenizer(str(tmp_path / "x.json"))
    (tmp_path / "x.tiktoken").write_text("IQ== 0\nIg==\n")
    with pytest.raises(UserError, match=r"x\.tiktoken:2: 'BASE64 RANK' is expected"):
        Cl100kTokenizer(str(tmp_path / "x.tiktoken"))
    (tmp_path / "x.tiktoken").write_text("IQ== 0\n")
    with pytest.raises(UserError, match=r"has 1 ranks; cl100k_base has 100256"):
        Cl100kTokenizer(str(tmp_path / "x.tiktoken"))
    with pytest.raises(UserError, match="vocab_size 99 is too small"):
        train_bpe(CORPUS, vocab_size=99)


def test_saved_folders_name_only_installed_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer in .*about\.json"):
        load_tokenizer(tmp_path)
    save_tokenizer(trained(), tmp_path)
    about = json.loads((tmp_path / "about.json").read_text())
    for name in ("subprocess.Popen", "RoPE", "HugingFaceTokenizer"):
        (tmp_path / "about.json").write_text(json.dumps({**about, "tokenizer": name}))
        with pytest.raises(UserError, match="no Tokenizer is called"):
            load_tokenizer(tmp_path)
    (tmp_path / "about.json").write_text(json.dumps(about))
    changed = (tmp_path / "tokenizer.json").read_text().replace('"rstrip": true', '"rstrip": false')
    (tmp_path / "tokenizer.json").write_text(changed)
    with pytest.raises(UserError, match="was changed after it was saved"):
        load_tokenizer(tmp_path)
