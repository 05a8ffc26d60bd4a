"""A bundle that is not what it was is refused, naming the file; one that was hashed here already opens at once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from phi3kit import UserError, bundle, opened

ABOUT = {"name": "x", "model": "m.pte", "tokenizer": "t.json", "context": 8, "stop": {"ids": [1]}}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """This machine has opened nothing yet."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "m.pte").write_bytes(bytes(range(256)))
    (folder / "t.json").write_text("{}")
    bundle.seal(folder, ABOUT)
    return folder


def test_what_was_sealed_is_read(sealed):
    found = bundle.read(sealed)
    assert found.model == sealed / "m.pte"
    assert found.context == 8
    assert found.stop_ids == [1]
    assert found.about["files"]["m.pte"]["bytes"] == 256


def test_altered(sealed):
    content = bytearray((sealed / "m.pte").read_bytes())
    content[50] ^= 1
    (sealed / "m.pte").write_bytes(content)
    with pytest.raises(UserError, match=r"m\.pte was altered: its sha256"):
        bundle.read(sealed)


def test_truncated(sealed):
    (sealed / "m.pte").write_bytes(b"short")
    with pytest.raises(UserError, match=r"m\.pte is cut short: 5 bytes of 256"):
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
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) - 69, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"bundle\.json (is damaged|was altered)"):
            bundle.read(sealed)
    path.write_bytes(whole + b"\n")
    with pytest.raises(UserError, match=r"bundle\.json was altered"):
        bundle.read(sealed)


@pytest.mark.parametrize("bit", [0x01, 0x20])
def test_any_byte_of_the_description(sealed, bit):
    """White space, letters of its own sha256, anything: every byte of it counts."""
    path = sealed / "bundle.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(_flipped(whole, at, bit))
        with pytest.raises(UserError, match=r"bundle\.json (was altered|is damaged|is of version)"):
            bundle.read(sealed)
    path.write_bytes(whole)
    assert bundle.read(sealed).context == 8


def test_any_byte_of_any_file(sealed):
    for file in (sealed / "m.pte", sealed / "t.json"):
        whole = file.read_bytes()
        for at in range(len(whole)):
            file.write_bytes(_flipped(whole, at, 0x01))
            with pytest.raises(UserError, match=f"{file.name} was altered"):
                bundle.read(sealed)
        file.write_bytes(whole)
    bundle.read(sealed)


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


def test_what_file_managers_leave_is_nobodys(sealed):
    (sealed / ".DS_Store").write_bytes(b"\0")
    assert bundle.read(sealed).context == 8


def test_a_file_too_many(sealed):
    (sealed / "more").mkdir()
    (sealed / "more" / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes\.txt does not belong to the bundle, bundle\.json does not name it"):
        bundle.read(sealed)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Names of the files that are hashed, as they are; nothing needs to settle."""
    names: list[str] = []
    own = bundle.sha256
    monkeypatch.setattr(bundle, "sha256", lambda file: names.append(file.name) or own(file))
    monkeypatch.setattr(opened, "SETTLED", -(10**10))
    return names


def test_the_second_opening_hashes_nothing(sealed, hashed, cache):
    bundle.read(sealed)
    assert hashed == ["m.pte", "t.json"]
    bundle.read(sealed)
    assert len(hashed) == 2
    bundle.read(sealed, anew=True)
    assert len(hashed) == 4
    (cache / "phi3kit" / "opened.json").write_text("{")
    bundle.read(sealed)
    assert len(hashed) == 6


def test_what_was_touched_is_hashed_again(sealed, hashed):
    bundle.read(sealed)
    whole, times = (sealed / "m.pte").read_bytes(), (sealed / "m.pte").stat()
    (sealed / "m.pte").write_bytes(_flipped(whole, 7, 1))
    with pytest.raises(UserError, match=r"m\.pte was altered"):
        bundle.read(sealed)
    os.utime(sealed / "m.pte", ns=(times.st_atime_ns, times.st_mtime_ns))  # as rsync -t would
    with pytest.raises(UserError, match=r"m\.pte was altered"):
        bundle.read(sealed)
    (sealed / "m.pte").write_bytes(whole)
    bundle.read(sealed)
    assert hashed[2:] == ["m.pte", "m.pte", "m.pte"]


def test_another_place_or_another_bundle_is_hashed(sealed, hashed):
    bundle.read(sealed)
    there = sealed.with_name("there")
    sealed.rename(there)
    bundle.read(there)
    assert len(hashed) == 4
    (there / "bundle.json").unlink()
    bundle.seal(there, ABOUT | {"context": 9})
    del hashed[:]
    assert bundle.read(there).context == 9
    assert hashed == ["m.pte", "t.json"]


def test_what_was_just_written_is_not_remembered(sealed, hashed, monkeypatch):
    monkeypatch.setattr(opened, "SETTLED", 10**13)
    bundle.read(sealed)
    bundle.read(sealed)
    assert len(hashed) == 4


def test_without_a_place_to_remember(sealed, hashed, cache):
    (cache / "phi3kit").write_text("a file in the way")
    bundle.read(sealed)
    bundle.read(sealed)
    assert len(hashed) == 4


def test_without_a_home(sealed, hashed, monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    bundle.read(sealed)
    bundle.read(sealed)
    assert len(hashed) == 4


def test_it_remembers_a_hundred_bundles(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "SETTLED", -(10**10))
    for number in range(opened.KEPT + 5):
        opened.remember(tmp_path / str(number), "seal", {"a": [1, 2, 3]})
    assert opened.remembered(tmp_path / "4", "seal") == {}
    assert opened.remembered(tmp_path / "5", "seal") == {"a": [1, 2, 3]}
    assert opened.remembered(tmp_path / "5", "another") == {}


def test_not_a_bundle(tmp_path):
    with pytest.raises(UserError, match=r"is not a bundle: no readable bundle\.json"):
        bundle.read(tmp_path)


def test_another_version(sealed, monkeypatch):
    monkeypatch.setattr(bundle, "VERSION", 3)
    with pytest.raises(UserError, match="is of version 2; this phi3kit reads 3, export again"):
        bundle.read(sealed)


def test_its_own_hash_is_of_its_bytes_with_zeros_there(sealed):
    """As `mobile/bundle.md` tells apps."""
    content = (sealed / "bundle.json").read_bytes()
    digits = json.loads(content)["sha256"].encode()
    assert content.count(digits) == 1
    assert content.endswith(digits + b'"\n}\n')
    assert hashlib.sha256(content.replace(digits, b"0" * 64)).hexdigest().encode() == digits


def test_what_changed_while_it_was_proven_is_not_sealed(sealed):
    proven = {"m.pte": bundle.sha256(sealed / "m.pte"), "t.json": "0" * 64}
    (sealed / "bundle.json").unlink()
    with pytest.raises(UserError, match=r"t\.json changed while it was proven; export again"):
        bundle.seal(sealed, ABOUT, proven=proven)
    assert not bundle.is_bundle(sealed)
