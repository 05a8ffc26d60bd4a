"""Rows over the joined stream of chunks: no token is lost at a chunk's end, whatever the chunks' sizes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy
import pytest
import torch

from phi3kit import UserError
from phi3kit.corpus.tokens import TokenWriter, join
from phi3kit.phases import TokenStream, token_rows
from phi3kit.phases.token_rows import TokenRows
from phi3kit.testing import tiny

SIZES = (5, 1, 40, 3, 2, 17, 33)


def chunks(folder: Path, sizes: tuple[int, ...] = SIZES, kind: type = numpy.uint16) -> numpy.ndarray:
    """A folder of so many ids in each chunk, as `prepare` joins them; the ids, joined."""
    ids = numpy.arange(sum(sizes)).astype(kind)
    parts = []
    for i, piece in enumerate(numpy.split(ids, numpy.cumsum(sizes)[:-1])):
        with TokenWriter(folder.parent / f"rank{i}") as writer:
            for document in numpy.array_split(piece, min(2, len(piece))):
                writer.write(document)
        parts.append(folder.parent / f"rank{i}")
    join(parts, folder)
    return ids


@pytest.mark.parametrize("size", [1, 2, 7, 16, 40, 41, 100, 101])
@pytest.mark.parametrize("kind", [numpy.uint16, numpy.int32])
def test_rows_are_the_joined_stream(tmp_path: Path, size: int, kind: type) -> None:
    ids = chunks(tmp_path / "t", kind=kind)
    rows = TokenRows(tmp_path / "t", size)
    assert len(rows) == len(ids) // size
    assert rows.left_out == len(ids) % size
    joined = torch.cat([rows[i] for i in reversed(range(len(rows)))]).view(len(rows), size).flip(0).flatten()
    assert joined.tolist() == ids[: len(rows) * size].tolist()
    assert joined.dtype == torch.int64


def test_where_a_row_ends_with_its_chunk_rows_are_what_litdata_reads(tmp_path: Path) -> None:
    from litdata import StreamingDataset, TokensLoader

    chunks(tmp_path / "t", (48, 16, 32, 21))
    theirs = StreamingDataset(str(tmp_path / "t"), item_loader=TokensLoader(block_size=16))
    ours = TokenRows(tmp_path / "t", 16)
    assert [ours[i].tolist() for i in range(len(ours))] == [numpy.asarray(theirs[i]).tolist() for i in range(7)]


def test_few_chunks_are_mapped_at_once_and_none_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_rows, "MAPPED", 2)
    chunks(tmp_path / "t")
    rows = TokenRows(tmp_path / "t", 101)
    first = rows[0].tolist()
    assert len(rows._mapped) == 2
    assert pickle.loads(pickle.dumps(rows))._mapped == {}
    assert pickle.loads(pickle.dumps(rows))[0].tolist() == first


def test_chunks_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no tokens at .*/t; run `phi3kit prepare`"):
        TokenRows(tmp_path / "t", 4)
    chunks(tmp_path / "t")
    with pytest.raises(UserError, match="/t holds 101 tokens, fewer than one row of 102; lower the context"):
        TokenRows(tmp_path / "t", 102)
    with pytest.raises(UserError, match="a row of 0 tokens holds none"):
        TokenRows(tmp_path / "t", 0)
    index = json.loads((tmp_path / "t/index.json").read_text())
    packed = index | {"config": index["config"] | {"compression": "zstd"}}
    (tmp_path / "t/index.json").write_text(json.dumps(packed))
    with pytest.raises(UserError, match="is no folder of plain token ids"):
        TokenRows(tmp_path / "t", 4)
    (tmp_path / "t/index.json").write_text(json.dumps(index))
    file = tmp_path / "t/chunk-2-0.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"chunk-2-0\.bin is not whole: it should have 96 bytes; prepare .* again"):
        TokenRows(tmp_path / "t", 4)


def test_what_fills_no_row_is_counted_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tiny.tokenizer()
    (tmp_path / "manifest.json").write_text(json.dumps({"tokenizer": {"fingerprint": tokenizer.fingerprint}}))
    chunks(tmp_path / "web/train")
    stream = TokenStream(tokenizer, tmp_path, "web", context=15, batch_size=2)
    assert len(stream.samples("train")) == len(stream.samples("train")) == 6  # type: ignore[arg-type]
    assert stream.report == {"rows": {"train": {"rows": 6, "left_out_tokens": 5}}}
    said = capsys.readouterr().err
    assert said == f"phi3kit: {tmp_path / 'web/train'}: the last 5 of 101 tokens fill no row\n"
