"""How to build the components that have no default for every option: the contract tests need one of each."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import scorer_examples

from phi3kit.records import Document
from phi3kit.testing import tiny

Build = Callable[..., Any]
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "tokenizers"


def real(cls: type, name: str) -> Build:
    """A tokenizer of a file kept beside the checkout; skips where it is absent."""

    def build() -> Any:
        if not (SHARED / name).is_file():
            pytest.skip(f"needs the real tokenizer {name} beside the checkout, which is absent here")
        return cls(str(SHARED / name))

    return build


@functools.cache
def corpus() -> Path:
    """A folder of documents in every format, chats and preferences; it lives as long as the tests."""
    import pyarrow
    import pyarrow.parquet

    folder = Path(_keep().name)
    documents = tiny.documents()
    (folder / "texts").mkdir()
    (folder / "banned.txt").write_text("# not in here\nrubbish\nshouting all\n")
    for document in documents:
        (folder / "texts" / f"{document.id.replace('/', '-')}.txt").write_text(document.text)
    rows = [{"id": d.id, "text": d.text} for d in documents]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "texts.parquet")
    with (folder / "pages.warc.gz").open("wb") as archive:
        write_pages(archive, {f"http://pages/{d.id}": d.text for d in documents})
    (folder / "saved").mkdir()
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.ipc.new_stream(str(folder / "saved/data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    chats, pairs = [], []
    for i in range(40):
        question = {"role": "user", "content": f"What is {i} plus {i}?"}
        answer = {"role": "assistant", "content": f"It is {2 * i}."}
        chats.append({"id": f"chat/{i}", "messages": [question, answer]})
        wrong = {"role": "assistant", "content": "No idea."}
        pairs.append({"id": f"pair/{i}", "prompt": [question], "chosen": [answer], "rejected": [wrong]})
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder


def write_pages(archive: IO[bytes], texts: dict[str, str]) -> None:
    """Texts as HTML pages of a web archive, by their addresses."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    writer = WARCWriter(archive, gzip=True)
    for address, text in texts.items():
        page = f"<html><body><article><p>{text}</p></article></body></html>".encode()
        headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.0")
        record = writer.create_warc_record(address, "response", payload=io.BytesIO(page), http_headers=headers)
        writer.write_record(record)


def cluster() -> Any:
    """An executor on a cluster."""
    pytest.skip("takes a minute: tests/corpus/test_executors.py, marked slow, checks the laws on a cluster of one")


@functools.cache
def _keep() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@functools.cache
def prepared() -> Path:
    """What `prepare` makes of that corpus, with the tiny tokenizer."""
    from phi3kit.corpus import ConversationFile, JSONLines, PreferenceFile
    from phi3kit.corpus.preparation import Preparation
    from phi3kit.corpus.progress import Progress

    preparation = Preparation(
        readers=[JSONLines(str(corpus() / "texts.jsonl"), id_field="id")],
        conversations=[ConversationFile(str(corpus() / "chats.jsonl"), holdout=0.2)],
        preferences=[PreferenceFile(str(corpus() / "pairs.jsonl"), holdout=0.2)],
        tokenizer=tiny.tokenizer(),
        holdout=0.2,
    )
    preparation.run(corpus() / "data", Progress(quiet=True))
    return corpus() / "data"


def examples() -> dict[str, dict[str, Build]]:
    """component -> label -> how to build it."""
    from phi3kit.corpus import (
        WARC,
        ConversationFile,
        Files,
        HubDataset,
        JSONLines,
        ParquetFiles,
        PreferenceFile,
        SavedDataset,
    )
    from phi3kit.corpus.filters import BannedWords
    from phi3kit.model import LongRoPE
    from phi3kit.phases import ConversationBatches, PreferenceBatches, TokenStream
    from phi3kit.quantizers import MixedPrecision
    from phi3kit.text import Cl100kTokenizer, HuggingFaceTokenizer

    partial = functools.partial
    chat, pairs = ({split: folder / f"{split}.jsonl" for split in ("train", "heldout")} for folder in (
        corpus() / "data" / "chat", corpus() / "data" / "preferences"))  # fmt: skip
    return {
        "MixedPrecision": {"": partial(MixedPrecision, "118KB")},
        **scorer_examples.examples(),
        "LongRoPE": {
            "switching": partial(LongRoPE, short_factor=[1.0] * 4, long_factor=[1.1, 2, 3, 4], original_context=16),
            "long": partial(
                LongRoPE, short_factor=[1.0] * 4, long_factor=[1.1, 2, 3, 4], original_context=16, use="long"
            ),
        },
        "HuggingFaceTokenizer": {
            "trained": tiny.tokenizer,
            "phi-3-mini": real(HuggingFaceTokenizer, "phi-3-mini/tokenizer.json"),
        },
        "Cl100kTokenizer": {"phi-3-small": real(Cl100kTokenizer, "phi-3-small/cl100k_base.tiktoken")},
        "BannedWords": {"file": lambda: BannedWords(str(corpus() / "banned.txt"))},
        "Files": {"folder": lambda: Files(str(corpus() / "texts"))},
        "JSONLines": {"file": lambda: JSONLines(str(corpus() / "texts.jsonl"), id_field="id")},
        "ParquetFiles": {"file": lambda: ParquetFiles(str(corpus() / "texts.parquet"))},
        "SavedDataset": {"folder": lambda: SavedDataset(str(corpus() / "saved"))},
        "HubDataset": {"folder": lambda: HubDataset(str(_parquet()), cache=str(corpus() / "hub-cache"))},
        "WARC": {"archive": lambda: WARC(str(corpus() / "pages.warc.gz"))},
        "Slurm": {"cluster": cluster},
        "Ray": {"cluster": cluster},
        "ConversationFile": {"file": lambda: ConversationFile(str(corpus() / "chats.jsonl"))},
        "PreferenceFile": {"file": lambda: PreferenceFile(str(corpus() / "pairs.jsonl"))},
        "TokenStream": {
            "web": lambda tokenizer: TokenStream(tokenizer, prepared(), "web", context=16, batch_size=2),
        },
        "ConversationBatches": {
            "chat": lambda tokenizer: ConversationBatches(tokenizer, **_files(chat), context=64, batch_size=2),
        },
        "PreferenceBatches": {
            "pairs": lambda tokenizer: PreferenceBatches(tokenizer, **_files(pairs), context=64, batch_size=2),
        },
    }


def _files(splits: dict[str, Path]) -> dict[str, Path]:
    prepared()
    return splits


def bad_files() -> dict[str, tuple[Build, str]]:
    """reader -> (how to build one that meets a bad file, the file's name)."""
    from phi3kit.corpus import WARC, Files, JSONLines, ParquetFiles, SavedDataset

    def reading(cls: type, name: str, content: bytes) -> tuple[Build, str]:
        def build() -> Any:
            (corpus() / name).write_bytes(content)
            return cls(str(corpus() / name))

        return build, name

    return {
        "Files": reading(Files, "latin.txt", "naïve".encode("latin-1")),
        "JSONLines": reading(JSONLines, "cut.jsonl", b'{"text": "whole"}\n{"text": "cu'),
        "ParquetFiles": reading(ParquetFiles, "cut.parquet", b"PAR1 and then nothing"),
        "SavedDataset": reading(SavedDataset, "cut.arrow", b"ARROW1 and then nothing"),
        "WARC": reading(WARC, "cut.warc.gz", b"\x1f\x8b and then nothing"),
    }


def _parquet() -> Path:
    """A folder that Hugging Face's library takes for a data set."""
    folder = corpus() / "parquet"
    if not folder.exists():
        folder.mkdir()
        (folder / "train.parquet").write_bytes((corpus() / "texts.parquet").read_bytes())
    return folder


def documents() -> list[Document]:
    """What the synthesizers that ship here make something of."""
    return [*tiny.documents(), *_python_documents()]


def _python_documents() -> list[Document]:
    from itertools import islice

    from phi3kit.corpus import PythonDocs

    return list(islice(PythonDocs(topics=False, source=False).read(), 40))
