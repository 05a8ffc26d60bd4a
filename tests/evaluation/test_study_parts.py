"""The parts of a study: leaks, sums over seeds, tables and plots, from numbers that are known."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from phi3kit import UserError
from phi3kit.evaluation.arms import Arm, cells
from phi3kit.evaluation.leaks import repeated
from phi3kit.evaluation.plot import rounded, svg
from phi3kit.evaluation.results import Measured, Results
from phi3kit.evaluation.state import reported
from phi3kit.evaluation.summary import difference, spread
from phi3kit.evaluation.table import markdown

SEEDS = (1, 2, 3, 4)
A = dict(zip(SEEDS, (2.50, 2.54, 2.46, 2.58), strict=True))
B = dict(zip(SEEDS, (2.41, 2.44, 2.37, 2.46), strict=True))
NOISE = dict(zip(SEEDS, (2.60, 2.40, 2.52, 2.55), strict=True))
TEXT = Measured("text", "bits per byte", {"a": A, "b": B, "n": NOISE}, "3 passages")
SURE, UNSURE = dict.fromkeys(SEEDS, 0.001), {1: 0.001, 2: 0.2, 3: 0.001, 4: 0.01}
EASY = Measured(
    "easy", "share right", {"a": NOISE, "b": A, "n": B}, chance=0.25, p={"a": UNSURE, "b": SURE, "n": UNSURE}
)
HARD = Measured(
    "hard", "share right", {arm: dict.fromkeys(SEEDS, 0.26) for arm in "abn"}, chance=0.25,
    p=dict.fromkeys("abn", UNSURE),
)  # fmt: skip
RESULTS = Results({"a": "unfiltered", "b": "filtered", "n": ""}, [TEXT, EASY, HARD])


def test_sums_equal_scipys() -> None:
    from scipy.stats import ttest_rel

    found = spread(list(A.values()))
    assert found.mean == pytest.approx(2.52)
    assert found.deviation == pytest.approx(math.sqrt(sum((x - 2.52) ** 2 for x in A.values()) / 3))
    assert spread([1.0]).deviation == 0.0
    interval = ttest_rel(list(B.values()), list(A.values())).confidence_interval()
    less = difference(B, A)
    assert (less.low, less.high) == pytest.approx((interval.low, interval.high))
    assert less.mean == pytest.approx(-0.1)
    assert less.sure
    assert not difference(NOISE, A).sure
    assert difference({1: 3.0}, {1: 2.0, 2: 9.0}) == difference({1: 2.5}, {1: 1.5})
    assert difference({1: 3.0}, {1: 2.0}).low is None


def test_passages_that_training_repeats_are_found() -> None:
    words = [f"w{i}" for i in range(40)]
    passages = [" ".join(words[:20]), " ".join(words[20:]), "short text", " ".join(reversed(words))]
    training = ["other words", f"Before. {', '.join(words[25:38]).upper()}! After.", " ".join(words[:12])]
    assert repeated(passages, training, 13) == {1}
    assert repeated(passages, training, 12) == {0, 1}
    assert repeated(passages, [], 13) == set()


def test_the_table_says_what_is_sure_and_what_is_guessed() -> None:
    text = markdown(RESULTS)
    assert "| a unfiltered | 2.520 ± 0.052 | 2.518 ± 0.085 (at chance) |" in text
    assert "| b filtered | 2.420 ± 0.039 | 2.520 ± 0.052 |" in text
    low, high = (difference(B, A).low, difference(B, A).high)
    assert f"| b filtered | **-0.100 [{low:+.3f}, {high:+.3f}]** |" in text
    row = next(line for line in text.splitlines() if line.startswith("| n") and "[" in line)
    assert "**" not in row, "noise is not bold"
    assert "- text: 3 passages" in text
    assert "- hard: no arm answers better than guessing (0.250)" in text
    assert "hard, share right |" not in text


def test_the_plot_draws_every_seed_and_the_bars_where_they_belong() -> None:
    picture = svg(RESULTS)
    root = ElementTree.fromstring(picture)
    drawn = root.findall(".//{*}circle")
    assert len([c for c in drawn if c.get("r") == "2.6"]) == 2 * 3 * len(SEEDS), "hard is at chance: no panel"
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "a: 2.52 ± 0.052, 4 seeds" in titles
    panel = root.findall("{*}g")[0]
    means = [c for c in panel.findall("{*}circle") if c.get("r") == "4"]
    heights = [float(c.get("cy", "nan")) for c in means]
    assert heights[1] > heights[0], "fewer bits are lower"
    bar = next(p.get("d", "") for p in panel.findall("{*}path") if p.get("stroke-width"))
    top, bottom = map(float, re.match(r"M[\d.]+ ([\d.]+)V([\d.]+)", bar).groups())  # type: ignore[union-attr]
    assert (top + bottom) / 2 == pytest.approx(heights[0], abs=0.1)
    lopsided = Measured("text", "bits per byte", {"a": {1: 2.0, 2: 2.0, 3: 2.1}})  # its bar ends below all seeds
    drawn_bars = re.findall(r"d='M[\d.]+ ([\d.-]+)V([\d.-]+)M", svg(Results({"a": ""}, [lopsided])))
    assert all(34 <= float(end) <= 190 for ends in drawn_bars for end in ends), "inside the axes"
    assert drawn_bars
    assert picture.count("stroke-dasharray") == 1, "where guessing would be"
    labels = [t.text for t in panel.findall("{*}text")]
    assert labels[0] == "text, bits per byte"
    assert {"a", "b", "n"} <= set(labels)


def test_the_plot_against_a_number_stands_in_its_order() -> None:
    size = Measured("size", "MB", {"a": {1: 4.0}, "b": {1: 1.0}, "n": {1: 2.0}})
    root = ElementTree.fromstring(svg(Results(RESULTS.arms, [TEXT, size]), size))
    assert len(root.findall("{*}g")) == 1, "the axis is no panel"
    x = {c[0].text.split(":")[0]: float(c.get("cx")) for c in root.iter("{http://www.w3.org/2000/svg}circle") if len(c)}  # type: ignore[union-attr, arg-type]
    assert x["b"] < x["n"] < x["a"]
    assert x["n"] - x["b"] == pytest.approx((x["a"] - x["n"]) / 2, abs=0.2)
    assert "size, MB" in [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("low", "high"), [(2.41, 2.58), (0.26, 0.26), (3.0, 900.0), (-0.02, 0.013), (0.0, 0.0)])
def test_ticks_are_round_and_hold_everything(low: float, high: float) -> None:
    ticks = rounded(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 3 <= len(ticks) <= 8
    step = ticks[1] - ticks[0]
    assert f"{step:.0e}"[0] in "125"


def test_a_cell_is_the_layers_of_its_arm_and_its_seed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text("1")
    base = {
        "verb": "fit",
        "seed": 0,
        "minutes": 3,
        "data": {"init_args": {"folder": str(tmp_path / "data"), "part": "x"}},
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "arm.yaml").write_text("data: {init_args: {part: y}}\n")
    arms = [Arm("a"), Arm("b", recipes=[str(tmp_path / "arm.yaml")]), Arm("c", keys={"data.init_args.part": "z"})]

    def grid() -> list[tuple[str, int, str, str]]:
        found = cells([str(tmp_path / "base.yaml")], arms, (5, 6), ("seed", "data.init_args.seed"), tmp_path / "out")
        for cell in found:
            assert cell.content["seed"] == cell.content["data"]["init_args"]["seed"] == cell.seed
            assert "minutes" not in cell.content
        return [(c.arm, c.seed, c.content["data"]["init_args"]["part"], c.fingerprint) for c in found]

    first = grid()
    expected = [("a", 5, "x"), ("b", 5, "y"), ("c", 5, "z"), ("a", 6, "x"), ("b", 6, "y"), ("c", 6, "z")]
    assert [cell[:3] for cell in first] == expected
    assert len({cell[3] for cell in first}) == 6
    assert grid() == first
    (tmp_path / "data" / "manifest.json").write_text("2")  # the data was made anew
    assert {cell[3] for cell in grid()}.isdisjoint(cell[3] for cell in first)


def test_reported_numbers(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"size": {"bytes": 12, "name": "x"}}')
    assert reported(tmp_path, "size.bytes") == 12.0
    with pytest.raises(UserError, match=r"has no 'size\.megabytes': at 'megabytes' it has bytes, name"):
        reported(tmp_path, "size.megabytes")
    with pytest.raises(UserError, match=r"'size\.name' of .* is 'x', not a number"):
        reported(tmp_path, "size.name")
    with pytest.raises(UserError, match="cannot name a folder"):
        Arm("a/b")
