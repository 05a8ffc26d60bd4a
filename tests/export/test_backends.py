"""Backends: those that are not available say why; those that are say what they cannot do."""

from __future__ import annotations

import json

import pytest

from phi3kit.cli import main
from phi3kit.families import Backend


@pytest.mark.parametrize("name", sorted(Backend.not_here))
def test_a_backend_that_is_not_available_says_why_in_one_line(name, tmp_path, capsys):
    recipe = tmp_path / "export.yaml"
    recipe.write_text(json.dumps({"verb": "export", "name": "x", "out": "x", "backend": {"class_path": name}}))
    assert main(["export", "--recipe", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"the Backend {name} is not available here: {Backend.not_here[name]}; use XNNPACK" in error
