"""What is neither a run nor a bundle is said to be what it is, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from phi3kit import UserError
from phi3kit.serve import load


@pytest.mark.parametrize(
    ("files", "given", "said"),
    [
        ([], "absent", r"there is no folder .*absent$"),
        ([], "microsoft/Phi-3-mini-4k-instruct", "hub is downloaded first, then `phi3kit convert`"),
        (["my-sft/config.yaml"], "my-stf", "did you mean 'my-sft'"),
        (["plain/config.json"], "plain", r"a public checkpoint; make a run of it: phi3kit convert .*plain runs/plain"),
        (["lora/adapter_config.json"], "lora", r"an adapter \(LoRA\); merge it"),
        (["r.yaml"], "r.yaml", "it is a recipe; train with `phi3kit fit"),
        (["recipes/1-prepare.yaml"], "recipes", "it holds recipes; `phi3kit run`"),
        (["data/manifest.json"], "data", "it is prepared data"),
        (["b/bundle.json", "b/m.pte"], "b/m.pte", r"a file of one; give the folder, .*b$"),
        (["m.gguf"], "m.gguf", "give the folder of a run or a bundle"),
        (["runs/a/config.yaml", "runs/b/bundle.json"], "runs", "there are some in it: a, b"),
        (["empty/notes.txt"], "empty", r"no config\.yaml and no bundle\.json"),
    ],
)
def test_what_to_do_instead(tmp_path, monkeypatch, files, given, said):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        load(Path(given))
    assert "is neither a run nor a bundle" in str(error.value)
    assert "\n" not in str(error.value)
