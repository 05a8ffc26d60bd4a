"""A model whose answers end in one way only: a program gives back a list of one as its element."""

from __future__ import annotations

from pathlib import Path

from phi3kit.export import XNNPACK, Program, metadata, trace
from phi3kit.export.device import for_device
from phi3kit.export.verify import check_metadata
from phi3kit.testing import tiny


def test_one_stop_is_what_the_program_says(tmp_path: Path) -> None:
    net = tiny.net()
    for_device(net)
    program = Program(net, 32, "float")
    constants = metadata(program, eos_ids=[7], bos_id=3)
    model = tmp_path / "model.pte"
    model.write_bytes(XNNPACK().lower(trace(program), constants))
    delegates = frozenset(XNNPACK().delegates)
    assert check_metadata(model, constants, delegates)["faults"] == []
    wrong = check_metadata(model, constants | {"get_eos_ids": [8]}, delegates)["faults"]
    assert wrong == ["get_eos_ids() is 7, not [8]"]
