"""A bundle that is not what it was is refused, naming the file."""

from __future__ import annotations

import json

import pytest

from phi3kit import UserError, bundle

ABOUT = {"name": "x", "model": "m.pte", "tokenizer": "t.json", "context": 8, "stop": {"ids": [1]}}


@pytest.fixture
def sealed(tmp_path):
    (tmp_path / "m.pte").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "t.json").write_text("{}")
    bundle.seal(tmp_path, ABOUT)
    return tmp_path


def test_what_was_sealed_is_read(sealed):
    found = bundle.read(sealed)
    assert found.model == sealed / "m.pte"
    assert found.context == 8
    assert found.stop_ids == [1]
    assert found.about["files"]["m.pte"]["bytes"] == 1024


def test_altered(sealed):
    content = bytearray((sealed / "m.pte").read_bytes())
    content[500] ^= 1
    (sealed / "m.pte").write_bytes(content)
    with pytest.raises(UserError, match=r"m\.pte was altered: its sha256"):
        bundle.read(sealed)


def test_truncated(sealed):
    (sealed / "m.pte").write_bytes(b"short")
    with pytest.raises(UserError, match=r"m\.pte is cut short: 5 bytes of 1024"):
        bundle.read(sealed)


def test_missing(sealed):
    (sealed / "t.json").unlink()
    with pytest.raises(UserError, match=r"t\.json is missing"):
        bundle.read(sealed)


def test_description_altered(sealed):
    path = sealed / "bundle.json"
    path.write_text(path.read_text().replace('"context": 8', '"context": 9'))
    with pytest.raises(UserError, match=r"bundle\.json was altered"):
        bundle.read(sealed)


def test_description_truncated(sealed):
    path = sealed / "bundle.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=r"bundle\.json is damaged"):
        bundle.read(sealed)


def test_not_a_bundle(tmp_path):
    with pytest.raises(UserError, match=r"is not a bundle: no readable bundle\.json"):
        bundle.read(tmp_path)


def test_another_version(sealed, monkeypatch):
    monkeypatch.setattr(bundle, "VERSION", 2)
    with pytest.raises(UserError, match="is of version 1"):
        bundle.read(sealed)


def test_the_hash_covers_everything_but_itself(sealed):
    about = json.loads((sealed / "bundle.json").read_text())
    assert len(about["sha256"]) == 64
    del about["sha256"]
    bundle.seal(sealed, ABOUT)
    again = json.loads((sealed / "bundle.json").read_text())
    del again["sha256"]
    assert again == about
