"""An export that is killed leaves nothing that looks finished; run again it goes on, and proves in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from ready_backend import Ready

from phi3kit import UserError, bundle
from phi3kit import recipe as recipes
from phi3kit.export.stream import FOLDER
from phi3kit.verbs import export, export_proof

WAIT = 300.0  # seconds, on a busy machine


def test_killed_and_run_again(tiny_run, tiny_bundle, tmp_path, monkeypatch, capsys):
    content = {"start_from": str(tiny_run), "name": "tiny", "out": str(tmp_path / "out")}
    file = tmp_path / "export.yaml"
    file.write_text(json.dumps(content | {"quantizer": {"class_path": "Int8DynamicInt4Weight"}}))
    kept = tmp_path / "out.partial" / FOLDER
    command = [sys.executable, "-c", "from phi3kit.cli import main; main()", "export", "--recipe", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + WAIT
    while len(list(kept.glob("*.safetensors"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert not bundle.is_bundle(tmp_path / "out.partial")
    found = len(list(kept.glob("*.safetensors")))
    assert found >= 2

    monkeypatch.setattr(Ready, "pte", (tiny_bundle / "phi4_tiny.pte").read_bytes())
    monkeypatch.setattr("phi3kit.export.XNNPACK", Ready)
    monkeypatch.setattr(export, "APART", 0)
    report = export.export(recipes.read("export", export.declare, ["--recipe", str(file)]))
    assert f"  {found} parts were quantized already" in capsys.readouterr().out
    assert report["peak_memory"]["proof"] > 1e7
    assert report["verification"]["points"][3]["numbers"]["positions"] > 250
    assert bundle.read(tmp_path / "out").about["name"] == "tiny"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["export.yaml", "out"]
    assert not (tmp_path / "out" / FOLDER).exists()


def _dies(work: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_proof_that_is_killed_is_said(monkeypatch):
    monkeypatch.setattr(export_proof, "_prove", _dies)
    with pytest.raises(UserError, match="the process that proves the program was killed, most likely for want of mem"):
        export_proof.proof_apart(None)  # type: ignore[arg-type]
