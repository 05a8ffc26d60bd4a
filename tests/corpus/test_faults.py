"""Faults: killed at any stage and run again, the result is the same to the byte; a change repeats what it must."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import killed_preparation
import pytest
from killed_preparation import STAGES, preparation, write_inputs

from phi3kit.corpus import Progress
from phi3kit.errors import UserError

QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "in"
    write_inputs(root)
    return root


@pytest.fixture(scope="module")
def undisturbed(inputs: Path) -> Path:
    """What it makes when nobody kills it."""
    preparation(inputs).run(inputs.parent / "undisturbed", QUIET)
    return inputs.parent / "undisturbed"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one of timings."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if name != "report.json"}


def die(inputs: Path, out: Path, stage: str, moment: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["phi3kit.corpus.preparation", "litdata", "killed_preparation"])
    arguments = (str(inputs), str(out), stage, moment)
    process = context.Process(target=killed_preparation.run_and_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -9, f"{stage} was not reached: exit code {process.exitcode}"


EVERY = [pytest.param(STAGES, moment, marks=pytest.mark.slow) for moment in ("before", "after")]


@pytest.mark.parametrize(("stages", "moment"), [(("sift", "tokens"), "before"), *EVERY])
def test_killed_at_a_stage_and_run_again(
    inputs: Path, undisturbed: Path, tmp_path: Path, stages: tuple[str, ...], moment: str
) -> None:
    out = tmp_path / "out"
    for stage in stages:
        die(inputs, out, stage, moment)
        assert not out.exists()
    preparation(inputs).run(out, QUIET)
    assert contents(out) == contents(undisturbed)
    assert len(contents(out)) > 15


@pytest.mark.slow
def test_two_workers_make_the_same(inputs: Path, undisturbed: Path, tmp_path: Path) -> None:
    preparation(inputs, workers=2).run(tmp_path / "out", QUIET)
    assert contents(tmp_path / "out") == contents(undisturbed)


def stages_of(out: Path) -> dict[str, int]:
    """Stage folder -> when it was finished."""
    return {f.parent.name: f.stat().st_mtime_ns for f in Path(f"{out}.stages").glob("*/stage.json")}


def test_a_changed_threshold_repeats_its_stage_and_those_after_it(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preparation(inputs).run(out, QUIET)
    before, first = stages_of(out), contents(out)
    preparation(inputs).run(out, QUIET)
    assert stages_of(out) == before  # nothing changed: nothing ran
    preparation(inputs, least=12).run(out, QUIET)
    after = stages_of(out)
    kept = {name.rsplit("-", 1)[0] for name in after if before.get(name) == after[name]}
    made = {name.rsplit("-", 1)[0] for name in after if name not in before}
    assert {"read", "sift", "score", "hashes", "duplicates", "signatures", "scored", "chats", "tokenizer"} <= kept
    assert {"choose", "exercises", "tokens"} <= made
    assert "encode" in kept  # of the documents; only the exercises are others
    assert contents(out)["manifest.json"] != first["manifest.json"]
    preparation(inputs).run(tmp_path / "again", QUIET)
    preparation(inputs).run(out, QUIET)
    assert contents(out) == contents(tmp_path / "again") == first


def test_a_changed_file_is_read_again_and_an_equal_one_costs_nothing_more(inputs: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    write_inputs(root)
    preparation(root).run(out, QUIET)
    before, first = stages_of(out), contents(out)
    (root / "a.jsonl").write_bytes((root / "a.jsonl").read_bytes())  # another time, the same content
    preparation(root).run(out, QUIET)
    assert {name.rsplit("-", 1)[0] for name in stages_of(out) if name not in before} == {"divide", "read"}
    assert contents(out) == first
    with (root / "a.jsonl").open("a") as file:
        file.write('{"text": "' + "one more lamp that nobody has seen before " * 4 + '"}\n')
    assert preparation(root).run(out, QUIET)["read"] == 49


def test_a_shard_that_was_cut_is_named_and_what_was_there_stays(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    preparation(inputs).run(out, QUIET)
    before = contents(out)
    shard = max(Path(f"{out}.stages").glob("scored-*/00000/documents.parquet"), key=lambda f: f.stat().st_size)
    whole = shard.read_bytes()
    shard.unlink()  # the published file is another name of the same one
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"scored-\w+/00000/documents\.parquet has \d+ bytes instead of \d+; remove "):
        preparation(inputs, least=12).run(out, QUIET)
    assert contents(out) == before
    shard.write_bytes(whole[:-8] + b"x" * 8)
    with pytest.raises(UserError, match=r"cannot read .*scored-\w+/00000/documents\.parquet: .*; remove "):
        preparation(inputs, least=12).run(out, QUIET)
    assert contents(out) == before
    shard.write_bytes(whole)
    preparation(inputs, least=12).run(out, QUIET)
