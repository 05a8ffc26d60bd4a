"""`prepare`, from files of one's own to a folder that training reads: sums, subsets, errors, repeatability."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from phi3kit import cli
from phi3kit.corpus import (
    DocstringExercises,
    Files,
    JSONLines,
    Length,
    ParquetFiles,
    Preparation,
    Progress,
    Reasoning,
)
from phi3kit.errors import UserError
from phi3kit.families import Reader, Tokenizer
from phi3kit.records import Document
from phi3kit.text import load_tokenizer, read_conversations, read_preferences, train_bpe

QUIET = Progress(quiet=True)
SENTENCE = "If stone {0} is lifted then lamp {0} must turn, because both hang on one rope. "


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Text, Markdown, HTML, JSONL, Parquet, conversations and preferences."""
    root = tmp_path / "mine"
    root.mkdir()
    for i in range(12):
        (root / f"t{i}.txt").write_text(SENTENCE.format(i) * 3)
        (root / f"m{i}.md").write_text(f"# Notes {i}\n\n- {SENTENCE.format(100 + i)}\n- <|endoftext|> is text\n")
    (root / "same.txt").write_text((root / "t3.txt").read_text() + "\n")
    (root / "short.md").write_text("too short")
    (root / "page.html").write_text(
        f"<html><body><nav>Menu</nav><article><p>{SENTENCE.format('x') * 4}</p></article></body></html>"
    )
    rows = [{"text": SENTENCE.format(200 + i) * 2, "key": f"k{i}"} for i in range(10)]
    (root / "docs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"body": SENTENCE.format(300 + i)} for i in range(10)]), root / "docs.parquet"
    )
    chat = {"messages": [{"role": "user", "content": "Lift?"}, {"role": "assistant", "content": "Turn."}]}
    (root / "chat.jsonl").write_text("\n".join(json.dumps({**chat, "id": str(i)}) for i in range(40)))
    pairs = [{"prompt": "Lift?", "chosen": "Turn.", "rejected": "No.", "id": str(i)} for i in range(40)]
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return root


def preparation(root: Path, **options: Any) -> Preparation:
    readers: list[Reader] = [
        Files(str(root)),
        JSONLines(str(root / "docs.jsonl"), id_field="key"),
        ParquetFiles(str(root / "docs.parquet"), text_field="body"),
    ]
    given = {"readers": readers, "filters": [Length(shortest=10)], "vocab_size": 400, "holdout": 0.1}
    return Preparation(**{**given, **options})


def tokens_of(folder: Path) -> list[int]:
    """Every id of a litdata folder, read through litdata itself."""
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
    from phi3kit import torchvision_ops

    torchvision_ops.declare()
    from litdata import StreamingDataset, TokensLoader

    dataset = StreamingDataset(str(folder), item_loader=TokensLoader(block_size=1))
    return [int(dataset[i][0]) for i in range(len(dataset))]


def documents_of(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert ids[-1] == end
    texts: list[list[int]] = [[]]
    for id in ids:
        if id == end:
            texts.append([])
        else:
            texts[-1].append(id)
    return [tokenizer.decode(text) for text in texts[:-1]]


def test_own_data_comes_back_from_litdata_as_it_went_in(own_data: Path, tmp_path: Path) -> None:
    prepared = preparation(own_data)
    manifest = prepared.run(tmp_path / "out", QUIET)
    tokenizer = load_tokenizer(tmp_path / "out/tokenizer")
    assert 300 < tokenizer.vocab_size <= 400
    wanted = {
        document.id: document.text
        for reader in prepared.readers
        for document in reader.read()
        if len(document.text.split()) >= 10 and document.id != "mine/t3.txt"
    }
    ids = (tmp_path / "out/web/documents.txt").read_text().splitlines()
    assert set(ids) == set(wanted)
    assert len(ids) == 12 + 12 + 1 + 10 + 10
    found = []
    for split in ("train", "heldout"):
        tokens = tokens_of(tmp_path / "out/web" / split)
        texts = documents_of(tokens, tokenizer)
        assert manifest["parts"]["web"][split] == {"documents": len(texts), "tokens": len(tokens)}
        assert texts
        found += texts
    assert sorted(found) == sorted(wanted.values())


def test_manifest_sums(own_data: Path, tmp_path: Path) -> None:
    manifest = preparation(own_data, stricter=[Reasoning(shortest=20)]).run(tmp_path / "out", QUIET)
    assert manifest == json.loads((tmp_path / "out/manifest.json").read_text())
    rejected = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert manifest["read"] == manifest["kept"] + sum(manifest["rejected"].values()) == 47
    assert manifest["rejected"] == {
        "duplicate: same text as a document before it": 1,
        "Length: fewer than 10 words": 1,
    }
    assert manifest["kept"] == sum(split["documents"] for split in manifest["parts"]["web"].values())
    strict = sum(split["documents"] for split in manifest["parts"]["reasoning"].values())
    assert strict == manifest["kept"] - sum(manifest["left_out"]["reasoning"].values())
    assert strict == sum(counts["reasoning"] for counts in manifest["sources"].values())
    assert manifest["kept"] == sum(counts["kept"] for counts in manifest["sources"].values())
    for step, after in zip(manifest["steps"], [*manifest["steps"][1:], None], strict=True):
        assert step["in"] == step["out"] + sum(step["rejected"].values())
        assert after is None or after["in"] == step["out"]
    assert len(rejected) == sum(manifest["rejected"].values()) + sum(manifest["left_out"]["reasoning"].values())
    assert rejected[0].keys() == {"id", "source", "part", "filter", "reason"}
    assert not (tmp_path / "out.partial").exists()
    for name, about in manifest["outputs"].items():
        content = (tmp_path / "out" / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    text = hashlib.sha256((own_data / "t0.txt").read_bytes()).hexdigest()
    assert manifest["inputs"]["mine/t0.txt"]["sha256"] == text


def test_the_second_part_is_a_subset_of_the_first_and_exercises(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text("\n".join(json.dumps(row) for row in reference_pages(30)))
    prepared = preparation(
        tmp_path,
        readers=[JSONLines(str(tmp_path / "docs.jsonl"))],
        stricter=[Reasoning(shortest=20)],
        exercises=[DocstringExercises()],
        holdout=0.2,
    )
    manifest = prepared.run(tmp_path / "out", QUIET)
    web, reasoning = (
        set((tmp_path / "out" / part / "documents.txt").read_text().splitlines()) for part in ("web", "reasoning")
    )
    made = {id for id in reasoning if id.startswith("exercises/")}
    assert reasoning - made < web
    assert len(made) == manifest["exercises"] > 0
    assert {id.split("/")[1] for id in made} <= reasoning  # each made of a strict document
    tokenizer = load_tokenizer(tmp_path / "out/tokenizer")
    read = {
        (part, split): documents_of(tokens_of(tmp_path / "out" / part / split), tokenizer)
        for part in ("web", "reasoning")
        for split in ("train", "heldout")
    }
    assert set(read["web", "train"]).isdisjoint(read["web", "heldout"])
    assert set(read["web", "train"]).isdisjoint(read["reasoning", "heldout"])
    held_names = {text.split()[1] for text in read["web", "heldout"]}
    assert held_names
    for text in read["reasoning", "train"]:
        assert not any(f"{name}." in text for name in held_names)  # nor what was made of a held-out page


def reference_pages(n: int) -> list[dict[str, str]]:
    strict = "If it must, then it returns; otherwise it raises, because it should."
    return [
        {
            "text": f"# module{i:02}\n\n{strict if i % 2 else 'A list of names. ' * 30}\n\n"
            f"## module{i:02}.lift(stone)\n\nReturn the lamp that hangs on the rope of the stone.\n"
        }
        for i in range(n)
    ]


def test_chats_and_preferences_of_ones_own(own_data: Path, tmp_path: Path) -> None:
    from phi3kit.corpus import ConversationFile, PreferenceFile

    manifest = preparation(
        own_data,
        conversations=[ConversationFile(str(own_data / "chat.jsonl"), holdout=0.2)],
        preferences=[PreferenceFile(str(own_data / "pairs.jsonl"), holdout=0.2)],
    ).run(tmp_path / "out", QUIET)
    for kind, read in (("chat", read_conversations), ("preferences", read_preferences)):
        assert set(manifest[kind]) == {"train", "heldout"}
        rows = {split: read(tmp_path / "out" / kind / f"{split}.jsonl") for split in manifest[kind]}
        assert {split: len(r) for split, r in rows.items()} == manifest[kind]
        assert sum(manifest[kind].values()) == 40
        assert {row.id for row in rows["train"]}.isdisjoint(row.id for row in rows["heldout"])


def test_a_given_tokenizer_is_kept(own_data: Path, tmp_path: Path) -> None:
    tokenizer = train_bpe(["If stone 1 is lifted then"] * 9, vocab_size=270)
    manifest = preparation(own_data, tokenizer=tokenizer, vocab_size=None).run(tmp_path / "out", QUIET)
    assert manifest["tokenizer"]["fingerprint"] == tokenizer.fingerprint
    assert load_tokenizer(tmp_path / "out/tokenizer").fingerprint == tokenizer.fingerprint


def test_two_runs_are_identical_but_for_their_times(own_data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        preparation(own_data, stricter=[Reasoning(shortest=20)]).run(folder, QUIET)
    names = [sorted(p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()) for f in folders]
    assert names[0] == names[1]
    assert len(names[0]) > 10
    differ = [name for name in names[0] if (folders[0] / name).read_bytes() != (folders[1] / name).read_bytes()]
    assert set(differ) <= {"report.json"}


# -------------------------------------------------------------------------------------------- bad input


class Listed(Reader):
    """Documents given to it."""

    def __init__(self, *documents: Document) -> None:
        self.documents = documents

    def read(self) -> Any:
        return iter(self.documents)


def refusal(prepared: Preparation, out: Path) -> str:
    with pytest.raises(UserError) as error:
        prepared.run(out, QUIET)
    assert "\n" not in str(error.value)
    assert not out.with_name(f"{out.name}.partial").exists()
    return str(error.value)


def test_an_empty_corpus_says_what_rejected_everything(own_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    message = refusal(preparation(own_data, filters=[Length(shortest=999)]), out)
    assert message == "nothing is left of 47 documents: 47 × Length: fewer than 999 words; loosen these filters"
    (tmp_path / "empty.jsonl").write_text("\n")
    nothing = preparation(own_data, readers=[JSONLines(str(tmp_path / "empty.jsonl"))])
    assert "the readers found no documents" in refusal(nothing, out)
    missing = preparation(own_data, readers=[Files(str(tmp_path / "nowhere"))])
    assert "there is no file or folder" in refusal(missing, out)
    assert not out.exists()


def test_unreadable_bytes_stop_or_are_listed(own_data: Path, tmp_path: Path) -> None:
    (own_data / "bad.txt").write_bytes(b"\xff\xfe\x00")
    stopping = preparation(own_data, readers=[Files(str(own_data), unreadable="stop")])
    assert "bad.txt is not UTF-8: byte 0 is 0xff" in refusal(stopping, tmp_path / "out")
    skipping = preparation(own_data, readers=[Files(str(own_data), unreadable="skip")])
    manifest = skipping.run(tmp_path / "out", QUIET)
    assert manifest["rejected"]["unreadable"] == 1
    row = json.loads((tmp_path / "out/rejected.jsonl").read_text().splitlines()[0])
    assert row["id"] == "mine/bad.txt"
    assert "byte 0 is 0xff" in row["reason"]


def test_other_mistakes(own_data: Path, tmp_path: Path) -> None:
    twice = preparation(own_data, readers=[Listed(Document("a", "x " * 20), Document("a", "y " * 20))])
    assert "two documents have the id 'a'" in refusal(twice, tmp_path / "out")
    single = preparation(own_data, readers=[Listed(Document("a", "x " * 20))])
    assert "no document is left for web/heldout; read more documents" in refusal(single, tmp_path / "out")
    with pytest.raises(UserError, match="give either `tokenizer`, or the `vocab_size`"):
        preparation(own_data, vocab_size=None)
    with pytest.raises(UserError, match=r"holdout is 1.5"):
        preparation(own_data, holdout=1.5)


def test_what_was_there_is_replaced_only_by_something_whole(own_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert "exists and `prepare` did not make it" in refusal(preparation(own_data), out)
    (out / "thesis.txt").unlink()
    out.rmdir()
    preparation(own_data).run(out, QUIET)
    before = (out / "manifest.json").read_bytes()
    refusal(preparation(own_data, filters=[Length(shortest=999)]), out)
    assert (out / "manifest.json").read_bytes() == before
    preparation(own_data, filters=[]).run(out, QUIET)
    assert (out / "manifest.json").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out", "out.stages"]


def test_a_full_disk_harms_nothing(own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    preparation(own_data, holdout=0.2).run(out, QUIET)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("phi3kit.corpus.tokens.TokenWriter.write", full)
    message = refusal(preparation(own_data), out)
    assert message.startswith("tokens stopped: No space left on device; nothing is lost, ")
    assert message.endswith("run the same command again: it goes on where it stopped")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_the_verb_reads_a_recipe(own_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "prepare.yaml"
    recipe.write_text(
        f"verb: prepare\nout: {tmp_path / 'out'}\npreparation:\n  readers:\n  - class_path: Files\n"
        f"    init_args: {{path: {own_data}}}\n"
        "  filters:\n  - class_path: Length\n    init_args: {shortest: 10}\n"
        "  vocab_size: 300\n  holdout: 0.1\n"
    )
    assert cli.main(["prepare", "--recipe", str(recipe)]) == 0
    assert "27 documents read, 25 kept" in capsys.readouterr().out
    first = (tmp_path / "out/manifest.json").read_bytes()
    again = ["prepare", "--recipe", str(tmp_path / "out/config.yaml"), "--out", str(tmp_path / "again")]
    assert cli.main(again) == 0
    assert (tmp_path / "again/manifest.json").read_bytes() == first
    recipe.write_text(recipe.read_text().replace(str(own_data), str(tmp_path / "nowhere")))
    capsys.readouterr()
    assert cli.main(["prepare", "--recipe", str(recipe)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("phi3kit: error: there is no file or folder")


def test_a_repeated_text_names_the_one_that_is_kept(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": SENTENCE.format(i)}) for i in range(30)))
    readers = [JSONLines(str(tmp_path / f"{name}.jsonl")) for name in "abc"]
    manifest = Preparation(readers=readers, vocab_size=300).run(tmp_path / "out", QUIET)
    assert manifest["kept"] == 30
    rows = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert {row["id"]: row["kept"] for row in rows} == {
        f"{name}.jsonl:{i}": f"a.jsonl:{i}" for name in "bc" for i in range(1, 31)
    }
