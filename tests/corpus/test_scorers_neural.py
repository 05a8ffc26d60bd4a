"""Scorers on top of models: embeddings of a Hugging Face folder and of our own run, and other people's classifiers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scorer_examples import encoder

from phi3kit.corpus.scorers import EmbeddingHead, SequenceClassifier, load_scorer, save_scorer
from phi3kit.corpus.scorers.encoders import fingerprint, open_encoder
from phi3kit.corpus.scorers.heads import HEADS, Forest, Logistic, Ridge
from phi3kit.errors import UserError
from phi3kit.model.load import load_run
from phi3kit.testing import contracts, tiny
from phi3kit.text import load_tokenizer

LABELS = [5.0, 0.0, 4.0, 1.0, 0.0, 5.0, 3.0, 2.0]


@pytest.fixture
def own_encoder(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(encoder(), tmp_path / "bert"))


def fitted(path: str | Path, head: str = "logistic") -> EmbeddingHead:
    scorer = EmbeddingHead(str(path), head=head, max_tokens=48)  # type: ignore[arg-type]
    scorer.fit(tiny.TEXTS, LABELS)
    return scorer


def clouds(n: int = 80, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Points, and labels that the first coordinate decides."""
    x_ND = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    return x_ND, np.clip(2.5 + 2 * x_ND[:, 0], 0, 5).astype(np.float64)


def test_embeddings_are_mean_hidden_states() -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(encoder()).eval(), AutoTokenizer.from_pretrained(encoder())
    got_ND = open_encoder(encoder()).embed(tiny.TEXTS, max_tokens=20)
    assert got_ND.shape == (8, 16)
    for text, got_D in zip(tiny.TEXTS, got_ND, strict=True):
        ids = tokenizer(text)["input_ids"][:19] + [tokenizer.sep_token_id]
        with torch.inference_mode():
            wanted_D = model(torch.tensor([ids])).last_hidden_state[0].mean(0)
        assert got_D == pytest.approx(wanted_D.numpy(), abs=1e-6)


def test_embeddings_of_our_own_run(tiny_run: Path) -> None:
    net, tokenizer = load_run(tiny_run), load_tokenizer(tiny_run / "tokenizer")
    got_ND = open_encoder(str(tiny_run)).embed([tiny.TEXTS[0], ""], max_tokens=12)
    with torch.inference_mode():
        wanted_D = net.hidden(torch.tensor([tokenizer.encode(tiny.TEXTS[0])[:12]]))[0].mean(0)
    assert got_ND[0] == pytest.approx(wanted_D.numpy(), abs=1e-6)
    assert not got_ND[1].any()


def test_a_head_on_our_own_run_keeps_the_laws(tiny_run: Path) -> None:
    contracts.check_scorer(lambda: EmbeddingHead(str(tiny_run), head="forest", max_tokens=64))


@pytest.mark.parametrize("name", HEADS)
def test_heads_compute_what_scikit_learn_does(name: str) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x_ND, label_N = clouds()
    got_N = HEADS[name].score(HEADS[name].fit(x_ND, label_N, 3.0), x_ND)
    wanted_N = label_N >= 3.0
    if name == "forest":
        forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=0).fit(x_ND, wanted_N)
        theirs_N = forest.predict_proba(x_ND)[:, 1]
    elif name == "logistic":
        pipe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x_ND, wanted_N)
        theirs_N = pipe.predict_proba(x_ND)[:, 1]
    else:
        ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=[1.0, 10.0, 100.0, 1000.0, 10000.0]))
        theirs_N = ridge.fit(x_ND, label_N).predict(x_ND).clip(0, 5)
    assert got_N == pytest.approx(theirs_N, abs=1e-5)


@pytest.mark.parametrize("head", [Logistic, Ridge, Forest])
def test_heads_learn_and_do_not_look_at_neighbours(head: type) -> None:
    x_ND, label_N = clouds()
    arrays = head.fit(x_ND[:60], label_N[:60], 3.0)
    scores_N = head.score(arrays, x_ND[60:])
    assert scores_N[label_N[60:] >= 3].mean() > scores_N[label_N[60:] < 3].mean() + 0.2
    assert [head.score(arrays, x_ND[i : i + 1])[0] for i in range(60, 80)] == scores_N.tolist()


def test_a_changed_or_moved_encoder_is_noticed(own_encoder: Path, tmp_path: Path) -> None:
    scorer = fitted(own_encoder)
    save_scorer(scorer, tmp_path / "edu")
    assert load_scorer(tmp_path / "edu").score(tiny.TEXTS) == scorer.score(tiny.TEXTS)
    moved = shutil.move(own_encoder, tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"there is no folder .*bert.*see `encoder` in its scorer.json"):
        load_scorer(tmp_path / "edu")
    options = json.loads((tmp_path / "edu/scorer.json").read_text())
    (tmp_path / "edu/scorer.json").write_text(json.dumps(options | {"encoder": str(moved)}))
    assert load_scorer(tmp_path / "edu").version == scorer.version, "the place is no part of the version"
    shutil.copy(Path(encoder(seed=1)) / "model.safetensors", moved)
    with pytest.raises(UserError, match=r"is not the one the scorer in .* was trained on; train it again"):
        load_scorer(tmp_path / "edu")


def test_another_encoder_is_another_version_though_the_path_is_the_same(own_encoder: Path) -> None:
    """datatrove's copy of a model is known by its path only, so a retrained one is never read (trap 6)."""
    first, scores = fingerprint(str(own_encoder)), fitted(own_encoder).score(tiny.TEXTS)
    shutil.copy(Path(encoder(seed=1)) / "model.safetensors", own_encoder)
    assert fingerprint(str(own_encoder)) != first
    assert fitted(own_encoder).score(tiny.TEXTS) != scores


def test_only_safetensors_in_local_folders_are_read(own_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder 'bert-base-uncased'; give a local one"):
        EmbeddingHead("bert-base-uncased")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no model: neither a run's config.yaml nor a Hugging Face config.json"):
        EmbeddingHead(str(tmp_path / "empty"))
    (own_encoder / "model.safetensors").unlink()
    torch.save({}, own_encoder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds no .safetensors; pickled weights are not read"):
        EmbeddingHead(str(own_encoder))
    (own_encoder / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(UserError, match="is not readable as a Hugging Face model"):
        fitted(own_encoder)


def test_a_classifier_without_its_head_is_refused() -> None:
    """transformers would draw the missing weights at random, and score with them."""
    with pytest.raises(UserError, match=r"lacks weights of BertForSequenceClassification: .*classifier.bias"):
        SequenceClassifier(encoder()).score(["x"])


def test_a_classifier_scores_as_transformers_does(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    for outputs in (1, 3):
        path = encoder(outputs=outputs)
        model = AutoModelForSequenceClassification.from_pretrained(path).eval()
        tokens = AutoTokenizer.from_pretrained(path)(tiny.TEXTS[0], return_tensors="pt")
        with torch.inference_mode():
            logits = model(**tokens).logits[0].double()
        scorer = SequenceClassifier(path, label=None if outputs == 1 else "LABEL_1")
        wanted = logits[0] if outputs == 1 else logits.softmax(0)[1]
        assert scorer.score([tiny.TEXTS[0]]) == pytest.approx([float(wanted)], abs=1e-6)
        assert scorer.probability == (outputs > 1)
    assert SequenceClassifier(path).version != SequenceClassifier(path, label="LABEL_0").version
    with pytest.raises(UserError, match="has no class 'good'; it has LABEL_0, LABEL_1, LABEL_2"):
        SequenceClassifier(path, label="good")
    save_scorer(SequenceClassifier(path), tmp_path / "s")
    assert load_scorer(tmp_path / "s").version == SequenceClassifier(path).version
