"""`phi3kit score fit` and `score report`: a scorer's folder, honest numbers, a page, and errors that help."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dummy_endpoint import DummyEndpoint, answer

from phi3kit.cli import main
from phi3kit.corpus.scorers import NotTrainedOn, SavedScorer
from phi3kit.records import Document

WORDS = ["light", "water", "stone", "river", "lamp", "house", "wind", "tree", "road", "cloud", "iron", "salt"]
TEACHING, SELLING = ["because", "therefore", "divides", "angle", "proof"], ["buy", "deal", "shipping", "cart", "offer"]


def write_rows(path: Path, n: int = 60, start: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Documents of two kinds that one word in ten tells apart, with labels of 0 to 5."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(start, start + n):
        telling = TEACHING if i % 2 else SELLING
        words = [str(draw.choice(telling if draw.random() < 0.1 else WORDS)) for _ in range(60)]
        rows.append({"id": f"doc{i}", "text": " ".join(words), "label": int(3 + i % 3 if i % 2 else i % 3)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    write_rows(tmp_path / "a.jsonl")
    reader = {"class_path": "JSONLines", "init_args": {"path": str(tmp_path / "a.jsonl"), "id_field": "id"}}
    annotator = {"class_path": "LabelFile", "init_args": {"path": str(tmp_path / "a.jsonl"), "id_field": "id"}}
    training = {"scorer": {"class_path": "HashedNGrams"}, "annotator": annotator, "documents": [reader]}
    return {"verb": "score fit", "out": str(tmp_path / "edu"), "training": training}


def call(work: str, recipe: dict[str, Any], folder: Path, *arguments: str) -> int:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return main(["score", work, "--recipe", str(folder / "recipe.yaml"), *arguments])


def failed(work: str, recipe: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert call(work, recipe, folder) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in told if line.startswith("phi3kit: error: ")]) == 1
    return told[-1]


class Page(HTMLParser):
    """What a page is made of: its tags, its text, and everything it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_fit_writes_a_scorer_its_report_and_what_it_was_trained_on(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("fit", recipe, tmp_path) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "edu"
    report, about = json.loads((out / "report.json").read_text()), json.loads((out / "about.json").read_text())
    assert (report["documents"]["labelled"], report["folds"]) == (60, 5)
    rated = report["quality"]
    assert 0.9 < rated["auc"] <= 1
    assert len(rated["auc_of_folds"]) == 5
    assert rated["brier"] < rated["brier_of_always_saying_the_share"]
    assert f"AUC {rated['auc']:.3f} ± {rated['auc_spread']:.3f} over 5 folds" in printed
    assert "only 60 labels" in printed
    assert about["trained_on"]["documents"] == 60
    assert about["threshold"] == report["threshold"]
    scorer = SavedScorer(str(out))
    assert scorer.version == about["version"] == report["scorer"]["version"]
    good, bad = scorer.score(["because the angle divides therefore proof", "buy deal shipping cart offer"])
    assert good > report["threshold"] > bad
    filter = NotTrainedOn(str(out))
    assert filter.reject(Document("doc7", "x")) == "trained the scorer"
    assert filter.reject(Document("doc99", "x")) is None
    assert yaml.safe_load((out / "config.yaml").read_text())["verb"] == "score fit"


def test_the_same_recipe_makes_the_same_files_and_a_repeat_replaces_them(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    def contents() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (tmp_path / "edu").iterdir()}

    assert call("fit", recipe, tmp_path) == 0
    first = contents()
    assert call("fit", recipe, tmp_path) == 0
    assert contents() == first
    assert call("fit", recipe, tmp_path, "--training.scorer.regularisation", "1.0") == 0
    assert contents()["about.json"] != first["about.json"]
    assert not list(tmp_path.glob("edu.*"))


def test_cross_validation_does_not_flatter(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Labels of chance: a scorer learns them by heart, and its report must say that it learned nothing."""
    rows, draw = write_rows(tmp_path / "a.jsonl", n=120), np.random.default_rng(1)
    for row in rows:
        row["label"] = int(draw.integers(2) * 5)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("fit", recipe, tmp_path) == 0
    rated = json.loads((tmp_path / "edu/report.json").read_text())["quality"]
    assert 0.3 < rated["auc"] < 0.7
    own = SavedScorer(str(tmp_path / "edu")).score([row["text"] for row in rows])
    assert np.mean([(score > 0.5) == (row["label"] > 3) for score, row in zip(own, rows, strict=True)]) > 0.95


def test_the_page_stands_alone_and_escapes_its_samples(recipe: dict[str, Any], tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "a.jsonl")
    for row in rows:
        row["text"] = f"</td><script>alert(1)</script><img src=x onerror=alert(2)> {row['text']}"
        row["rationale"] = "<b>bold</b>"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("fit", recipe, tmp_path) == 0
    html = (tmp_path / "edu/report.html").read_text()
    page = Page(html)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert not page.loads
    assert not re.findall(r"url\(|@import|https?://", html.replace("http://www.w3.org/2000/svg", ""))
    assert page.tags.count("svg") == 3, "ROC, reliability, and one histogram per source"
    text = " ".join(page.texts)
    assert "<script>alert(1)</script>" in text
    assert "<b>bold</b>" in text
    for wanted in ("Just above the threshold", "Just below it", "Scores by source", "Reliability", "only 60 labels"):
        assert wanted in text


def test_samples_stand_around_the_threshold(recipe: dict[str, Any], tmp_path: Path) -> None:
    assert call("fit", recipe, tmp_path, "--training.threshold", "0.5") == 0
    report = json.loads((tmp_path / "edu/report.json").read_text())
    above, below = ([s["score"] for s in report[side]] for side in ("just_above", "just_below"))
    scores = sorted(json.loads(line)["score"] for line in (tmp_path / "edu/scores.jsonl").read_text().splitlines())
    assert above == [s for s in scores if s >= 0.5][:20]
    assert below == [s for s in scores if s < 0.5][::-1][:20]
    (source,) = report["sources"].values()
    assert sum(source["histogram"]) == source["documents"] == 60


def report_recipe(folder: Path, name: str, labelled: bool = True, scorer: str = "SavedScorer") -> dict[str, Any]:
    reader = {"class_path": "JSONLines", "init_args": {"path": str(folder / name), "id_field": "id"}}
    named: dict[str, Any] = {"class_path": scorer}
    if scorer == "SavedScorer":
        named["init_args"] = {"path": str(folder / "edu")}
    inspection: dict[str, Any] = {"scorer": named, "documents": [reader]}
    if labelled:
        inspection["annotator"] = {
            "class_path": "LabelFile",
            "init_args": {"path": str(folder / name), "id_field": "id", "aspect": "educational"},
        }
    return {"verb": "score report", "out": str(folder / "report"), "inspection": inspection}


def test_report_leaves_out_what_trained_the_scorer(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("fit", recipe, tmp_path) == 0
    told = failed("report", report_recipe(tmp_path, "a.jsonl"), tmp_path, capsys)
    assert "all 60 labelled documents trained this scorer" in told
    old, new = write_rows(tmp_path / "a.jsonl"), write_rows(tmp_path / "b.jsonl", n=40, start=100, seed=5)
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*old, *new]))
    assert call("report", report_recipe(tmp_path, "c.jsonl"), tmp_path) == 0
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["documents"] == {"read": 100, "excluded": 60, "same_text": 0, "labelled": 40}
    assert report["threshold_from"] == "found in training"
    assert report["quality"]["auc"] > 0.85
    assert "60 left out (they trained it)" in capsys.readouterr().out


def test_report_without_labels_and_of_a_scorer_that_needs_none(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "b.jsonl", n=30)
    asked = report_recipe(tmp_path, "b.jsonl", labelled=False, scorer="ReasoningDensity")
    assert call("report", asked, tmp_path) == 0
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert "quality" not in report
    assert report["threshold_from"] == "median"
    assert "30 documents read, 30 scored, no labels" in capsys.readouterr().out
    assert Page((tmp_path / "report/report.html").read_text()).tags.count("svg") == 1
    capsys.readouterr()
    unfit = report_recipe(tmp_path, "b.jsonl", scorer="HashedNGrams")
    assert "HashedNGrams is not trained; `phi3kit score fit` trains it" in failed("report", unfit, tmp_path, capsys)


def test_weak_labels_are_told_and_compared(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the weak labels are wrong in a way a scorer can learn: the trusted ones show it."""
    rows = write_rows(tmp_path / "a.jsonl", n=80)
    for kind, wanted in (("selling", 0), ("teaching", 1)):
        chosen = [row for i, row in enumerate(rows) if (i % 2 == wanted) != (i % 4 == 1)]
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    sources = {str(tmp_path / f"{kind}.jsonl"): label for kind, label in (("selling", 0), ("teaching", 5))}
    recipe["training"]["annotator"] = {"class_path": "BySource", "init_args": {"labels": sources}}
    recipe["training"]["documents"] = [
        {"class_path": "JSONLines", "init_args": {"path": path, "id_field": "id"}} for path in sources
    ]
    trusted = {"class_path": "LabelFile", "init_args": {"path": str(tmp_path / "a.jsonl"), "id_field": "id"}}
    assert call("fit", recipe, tmp_path) == 0
    assert "warning: its labels are weak" in capsys.readouterr().out
    recipe["training"]["trusted"] = trusted
    assert call("fit", recipe, tmp_path) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "edu/report.json").read_text())
    assert report["trusted"]["documents"] == 80
    assert f"against {report['trusted']['labels']} (80): AUC {report['trusted']['auc']:.3f}" in printed
    assert "its labels are weak" not in printed


def change(recipe: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {**recipe, "training": {**recipe["training"], **training}}


def test_errors_help(recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(**training: Any) -> str:
        return failed("fit", change(recipe, **training), tmp_path, capsys)

    label_file = recipe["training"]["annotator"]["init_args"]
    rows = write_rows(tmp_path / "a.jsonl")

    def labels(name: str, kept: list[dict[str, Any]]) -> dict[str, Any]:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in kept))
        return {"class_path": "LabelFile", "init_args": {**label_file, "path": str(tmp_path / name)}}

    high = labels("high.jsonl", [row for row in rows if row["label"] >= 3])
    assert "all 30 labels (3 to 5) are at or above 3, so there is nothing to tell apart" in told(annotator=high)
    binary = labels("binary.jsonl", [{**row, "label": int(row["label"] >= 3)} for row in rows])
    assert "labels of 0 and 1? set the annotator's `largest: 1`" in told(annotator=binary)
    other = labels("other.jsonl", [{**row, "id": f"x{row['id']}"} for row in rows])
    assert (
        "none of 60 documents has a label. Labels are for 'xdoc0', 'xdoc1', 'xdoc2', …; documents are 'doc0', 'doc1', "
        "'doc2', …"
    ) in told(annotator=other)
    few = labels("few.jsonl", [row for row in rows if row["label"] < 3 or row["id"] in ("doc1", "doc3")])
    assert "only 2 of 32 labels are on one side of 3: too few for 5 folds" in told(annotator=few)
    for_reasoning = {"class_path": "HashedNGrams", "init_args": {"aspect": "reasoning"}}
    assert "the scorer is for 'reasoning', but the labels are about 'educational'" in told(scorer=for_reasoning)
    assert "ReasoningDensity learns nothing; look at it with `phi3kit score report`" in told(
        scorer={"class_path": "ReasoningDensity"}
    )
    assert "folds is 1; give 2 or more" in told(folds=1)
    assert "without folds there is no best threshold to find; give `threshold`" in told(folds=0)
    assert not (tmp_path / "edu").exists()
    assert not list(tmp_path.glob("edu.*"))
    (tmp_path / "edu").mkdir()
    (tmp_path / "edu/thesis.txt").write_text("mine")
    assert "exists and holds no scorer; choose another `out`" in failed("fit", recipe, tmp_path, capsys)
    assert (tmp_path / "edu/thesis.txt").exists()


def test_a_model_labels_a_sample_and_a_scorer_learns_it(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """phi-1's way in small: a strong model judges some documents, a cheap scorer learns to judge the rest."""

    def judge(prompt: str, _: int) -> tuple[int, Any]:
        shown = prompt.split("\n====\n")[1]
        return 200, answer(f"It holds or not.\nScore: {4 if any(word in shown for word in TEACHING) else 1}")

    with DummyEndpoint(judge) as server:
        init = {"url": server.url, "model": "judge", "answers": str(tmp_path / "answers.jsonl")}
        asked = change(recipe, annotator={"class_path": "LanguageModel", "init_args": init}, sample=40)
        assert call("fit", asked, tmp_path) == 0
        assert len(server.prompts) == 40
        assert call("fit", asked, tmp_path) == 0
        assert len(server.prompts) == 40, "the same sample, and nothing asked twice"
    report = json.loads((tmp_path / "edu/report.json").read_text())
    assert (report["documents"]["read"], report["documents"]["labelled"]) == (60, 40)
    assert report["quality"]["auc"] > 0.9
    assert report["labels"].startswith("judge, prompt ")
    assert report["just_above"][0]["rationale"] == "It holds or not."
    left = [NotTrainedOn(str(tmp_path / "edu")).reject(Document(f"doc{i}", "x")) for i in range(60)]
    assert left.count(None) == 20


def test_it_is_a_step_of_a_folder_of_recipes(
    recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`phi3kit run` trains the scorer once, and again when its recipe changes."""
    folder, state = tmp_path / "recipes", ["--state", str(tmp_path / "state")]
    folder.mkdir()
    (folder / "0-score.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(folder), *state]) == 0
    assert "AUC" in capsys.readouterr().out
    assert main(["run", str(folder), *state]) == 0
    assert "0-score: done already" in capsys.readouterr().out
    version = SavedScorer(str(tmp_path / "edu")).version
    (folder / "0-score.yaml").write_text(yaml.safe_dump(change(recipe, seed=1, threshold=0.25)))
    assert main(["run", str(folder), *state]) == 0
    assert SavedScorer(str(tmp_path / "edu")).version == version, "the folds changed, the scorer did not"
    assert SavedScorer(str(tmp_path / "edu")).threshold == 0.25


def test_the_verb_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score"]) == 0
    assert "phi3kit score fit    --recipe FILE" in capsys.readouterr().out
    assert main(["score", "fitt"]) == 2
    assert "phi3kit score fitt: say what to do, fit or report; did you mean 'fit'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["score", "fit", "--help"])
    printed = capsys.readouterr().out
    assert "--training.folds" in printed
    assert "HashedNGrams" in printed
