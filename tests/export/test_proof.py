"""A proof's points: their status, their lines, and the page."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from phi3kit.export.proof import TITLES, Point, Proof, runner_point
from phi3kit.verbs import proof_page

STEP = {"at": 2, "runner": 7, "reference": 9, "gap": 0.25}


@pytest.fixture
def proof() -> Proof:
    """A point passed, one failed, one not run."""
    return Proof.of(
        [
            Point("runner", not_run="its run is not here; name it with --run"),
            Point("tokenizer", ["3 texts"], {"texts": 3}),
            Point("logits", ["9 positions"], {"positions": 9}, ["logits differ by 2, <b>more</b> than one step"]),
        ]
    )


def test_all_points_in_order(proof):
    assert [point.name for point in proof.points] == list(TITLES)
    assert [point.number for point in proof.points] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [proof.points[i].status for i in (1, 3, 4, 7)] == ["passed", "failed", "not run", "not run"]
    assert proof.points[7].not_run == "not asked for"
    assert proof["tokenizer"] == {"texts": 3}


def test_a_fault_is_a_failure_even_where_a_point_was_not_run():
    assert Point("template", faults=["no eos_token"], not_run="no Node.js").status == "failed"


def test_a_point_can_be_given_later(proof):
    later = proof | [Point("logits", ["10 positions"], {"positions": 10})]
    assert later["logits"] == {"positions": 10}
    assert not later.faults
    assert proof.faults == ["logits: logits differ by 2, <b>more</b> than one step"]


def test_lines(proof):
    lines = proof.lines()
    assert lines[1] == "2 tokenizer  passed   3 texts"
    assert lines[3:6] == [
        "4 logits     failed   9 positions",
        "                      FAULT: logits differ by 2, <b>more</b> than one step",
        "5 runner     not run  its run is not here; name it with --run",
    ]
    assert lines[-1] == "proof                 failed; not run: points 1, 3, 5, 6, 7, 8"
    (whole,) = {Proof.of([Point(name) for name in TITLES]).lines()[-1]}
    assert whole == "proof                 holds"


def test_what_runners_said():
    greedy = {"tokens": 40, "prompts": 4, "differences": [{"prompt": 1, **STEP}], "faults": []}
    turns = {"turns": [{"new": 5, "read": 6, "before": 9}], "faults": ["prompt 0: read 6, only 5 were new"]}
    point = runner_point({"runner": greedy, "second_turn": turns, "other": {"told": "own words", "faults": []}})
    assert point.status == "failed"
    assert point.told == [
        "40 greedy tokens on 4 prompts in TextLLMRunner: 1 differ from the reference",
        "  prompt 1, token 2: 7 instead of 9, the reference's two best 0.25 apart",
        "second turn: read 6 new tokens after 9",
        "own words",
    ]
    assert point.faults == ["second_turn: prompt 0: read 6, only 5 were new"]
    assert point.numbers["prompts"] == 4
    assert point.numbers["second_turn"] == {"turns": turns["turns"]}


class Reader(HTMLParser):
    """Collects tags, attributes and text; unclosed tags are left in `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_files(proof, tmp_path):
    content = proof_page.document({"name": "tiny", "model": "phi4_tiny.pte"}, proof)
    proof_page.write(tmp_path, content)
    assert json.loads((tmp_path / "verification.json").read_text()) == content
    assert content["points"][3]["faults"] == proof.points[3].faults
    assert content["versions"]["executorch"]
    reader = Reader()
    reader.feed((tmp_path / "verification.html").read_text())
    assert not reader.open
    assert "The proof failed; not run: points 1, 3, 5, 6, 7, 8." in reader.text
    for point in proof.points:
        assert f"{point.number}.{TITLES[point.name]}" in reader.text
    assert "<b>more</b> than one step" in reader.text  # escaped
    assert [attributes["class"] for tag, attributes in reader.seen if tag == "section"].count("not-run") == 6
    assert not [tag for tag, attributes in reader.seen if tag in ("script", "link", "img") or "src" in attributes]
