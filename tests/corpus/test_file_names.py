"""Same-named files of several sources or folders: their documents' ids differ, and those of other files stay."""

from __future__ import annotations

import json
from pathlib import Path

from phi3kit.corpus import JSONLines, Preparation, Progress, Source
from phi3kit.corpus.file_names import told_apart


def names(*sources: tuple[str, str, str]) -> list[str]:
    """What (source, name, path) become."""
    return [name for some in told_apart([(s, [(n, Path(p))]) for s, n, p in sources]) for name, _ in some]


def test_a_name_of_its_own_stays() -> None:
    assert names(("a", "x.jsonl", "/d/x.jsonl"), ("b", "y.jsonl", "/e/y.jsonl")) == ["x.jsonl", "y.jsonl"]


def test_sources_come_first_then_folders() -> None:
    a, b = "/d/one/t.jsonl", "/d/two/t.jsonl"
    assert names(("a", "t.jsonl", a), ("b", "t.jsonl", b)) == ["a/t.jsonl", "b/t.jsonl"]
    assert names(("", "t.jsonl", a), ("", "t.jsonl", b)) == ["one/t.jsonl", "two/t.jsonl"]
    assert names(("a", "t.jsonl", a), ("", "t.jsonl", b), ("c", "u.jsonl", b)) == [
        "one/t.jsonl", "two/t.jsonl", "u.jsonl",
    ]  # fmt: skip
    deep = ("", "part/t.jsonl", "/d/one/part/t.jsonl"), ("", "part/t.jsonl", "/d/two/part/t.jsonl")
    assert names(*deep) == ["one/part/t.jsonl", "two/part/t.jsonl"]
    deeper = ("", "t.jsonl", "/d/one/p/t.jsonl"), ("", "t.jsonl", "/d/two/p/t.jsonl")
    assert names(*deeper) == ["one/p/t.jsonl", "two/p/t.jsonl"]


def test_a_new_name_is_nobody_elses() -> None:
    clash = ("a", "t", "/d/x/t"), ("b", "t", "/d/y/t"), ("c", "a/t", "/z/a/t")
    assert names(*clash) == ["x/t", "y/t", "a/t"]


def test_one_file_read_twice_by_sources(tmp_path: Path) -> None:
    file = "/d/t.jsonl"
    assert names(("questions", "t.jsonl", file), ("answers", "t.jsonl", file)) == [
        "questions/t.jsonl",
        "answers/t.jsonl",
    ]


def test_prepare_reads_both(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        rows = [json.dumps({"text": f"The lamp {i} of {folder} turns twice a minute."}) for i in range(30)]
        (tmp_path / folder / "train.jsonl").write_text("\n".join(rows))
    sources = [Source(name, JSONLines(str(tmp_path / name / "train.jsonl"))) for name in "ab"]
    manifest = Preparation(sources=sources, vocab_size=300).run(tmp_path / "out", Progress(quiet=True))
    assert manifest["read"] == manifest["kept"] == 60
    assert list(manifest["inputs"]) == ["a/train.jsonl", "b/train.jsonl"]
    assert (tmp_path / "out/web/documents.txt").read_text().count("b/train.jsonl:") == 30
