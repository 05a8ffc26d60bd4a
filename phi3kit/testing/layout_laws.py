"""Laws of `Layout`: one description of a net in both languages, every number in its place, and there and back.

The check writes a small random checkpoint as the layout says, converts it to a run and back, and compares files.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from phi3kit.checkpoints import convert
from phi3kit.errors import UserError
from phi3kit.families import Layout, Part
from phi3kit.model import Decoder
from phi3kit.model.load import build_net, load_run, whole_section
from phi3kit.model.public_config import named_today
from phi3kit.model.stored import INDEX, Stored, open_stored, shard_name
from phi3kit.model.tensor_file import Form, create, header
from phi3kit.testing.law import LawBroken, require

CONFIG = "config.json"
ELSE = {"class_path": "SomethingElse"}


def check_layout(
    build: Callable[[], Layout], config: Mapping[str, Any] | None = None, unused: Iterable[str] = ()
) -> None:
    """Every law of `Layout`.

    Args:
        build: makes one.
        config: a config.json of this layout with sizes that make a small net; without it only what needs no net is
            checked.
        unused: names of tensors that a checkpoint of this config may hold though the net does not use them.
    """
    layout = build()
    require(bool(layout.architectures), "a layout reads some architecture", "it names none")
    _refuses_a_config_without_sizes(layout)
    if config is None:
        return
    section = layout.net(config)
    _reads_what_it_writes(layout, section)
    _leaves_other_nets(layout, section)
    net = build_net(section, "meta")
    parts = layout.parts(net)
    _covers_the_net_once(net, parts)
    _unused_is_beside_the_parts(layout, parts, unused)
    with tempfile.TemporaryDirectory() as folder:
        _there_and_back(layout, net, parts, dict(config), list(unused), Path(folder))


def _refuses_a_config_without_sizes(layout: Layout) -> None:
    law = "a config.json that lacks its sizes is refused"
    try:
        layout.net({"architectures": sorted(layout.architectures)})
    except UserError:
        return
    except Exception as error:
        raise LawBroken(f"law broken: {law}; it raised {error!r}, not UserError") from error
    require(False, law, "it made a net of it")


def _reads_what_it_writes(layout: Layout, section: dict[str, Any]) -> None:
    whole = whole_section(section)
    for form, net in (("as read", section), ("with every default spelled out", whole)):
        written = layout.config(net)
        law = "a layout writes a config.json for the net it read"
        require(written is not None, law, f"config(net) is None for the net {form}")
        again = layout.net(json.loads(json.dumps(written)))
        differing = [name for name in section if section[name] != again.get(name)] if form == "as read" else []
        require(not differing, "net(config(net)) == net", f"{form}, it differs in {', '.join(differing)}")
        both = whole_section(again)
        differing = [name for name in whole if whole[name] != both[name]]
        require(not differing, "net(config(net)) == net", f"{form}, it differs in {', '.join(differing)}")
        architecture = (written or {}).get("architectures", ["none"])[0]
        law = "what a layout writes is an architecture it reads"
        require(architecture in layout.architectures, law, f"it writes {architecture}")


def _leaves_other_nets(layout: Layout, section: dict[str, Any]) -> None:
    for name, other in (("attention", [ELSE]), ("feed_forward", [ELSE]), ("position", ELSE), ("norm", ELSE)):
        found = layout.config({**section, name: other})
        require(found is None, "config(net) is None for a net of other components", f"not so for another {name}")


def _covers_the_net_once(net: Decoder, parts: list[Part]) -> None:
    names = [part.theirs for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, "the names of a layout differ", f"{twice[:3]} come twice")
    tied = {"lm_head.weight"} if net.tied else set()
    seen = {name: torch.zeros(tensor.shape, dtype=torch.uint8) for name, tensor in net.state_dict().items()}
    for part in parts:
        law = "a part's place is in a tensor of the net"
        require(part.ours in seen, law, f"there is no {part.ours}")
        seen[part.ours][part.place] += 1
    for name, count in seen.items():
        wrong = int((count != 1).sum()) if name not in tied else int(count.sum())
        law = "the parts cover every number of the net exactly once (a tied head: none)"
        require(wrong == 0, law, f"not so for {wrong} of {count.numel()} numbers of {name}")


def _unused_is_beside_the_parts(layout: Layout, parts: list[Part], unused: Iterable[str]) -> None:
    both = [part.theirs for part in parts if layout.unused(part.theirs)]
    require(not both, "a tensor is used or unused", f"{both[:3]} are both")
    refused = [name for name in unused if not layout.unused(name)]
    require(not refused, "unused tensors are known to be", f"{refused[:3]} are not")


def _there_and_back(
    layout: Layout, net: Decoder, parts: list[Part], config: dict[str, Any], unused: list[str], folder: Path
) -> None:
    public, run, back, made = (folder / name for name in ("public", "run", "back", "made"))
    config.setdefault("architectures", sorted(layout.architectures))
    written = _random_checkpoint(layout, net, parts, config, unused, public)
    convert(public, run)
    own = load_run(run).state_dict()
    for part in parts:
        law = "a converted run holds the checkpoint's numbers in their places"
        same = torch.equal(own[part.ours][part.place], written.tensor(part.theirs))
        require(same, law, f"{part.theirs} is not what is at {part.place} of {part.ours}")
    convert(run, back)
    for path in sorted(public.iterdir()):
        same = (back / path.name).is_file() and (back / path.name).read_bytes() == path.read_bytes()
        if path.name == CONFIG and named_today(config) != config:
            same = json.loads((back / CONFIG).read_text()) == named_today(config)
        require(same, "there and back is the same, bit for bit", f"{path.name} differs")
    (run / "hugging_face").rename(folder / "elsewhere")
    convert(run, made)
    found = open_stored(made)
    law = "a run that has no public folder behind it is written with the same tensors"
    require(found.place.keys() == written.place.keys() - set(unused), law, "the names differ")
    for name in found.place:
        require(torch.equal(found.tensor(name), written.tensor(name)), law, f"{name} differs")


def _random_checkpoint(
    layout: Layout, net: Decoder, parts: list[Part], config: dict[str, Any], unused: list[str], folder: Path
) -> Stored:
    """A checkpoint folder of two shards, bfloat16, with small random numbers."""
    own, copies = net.state_dict(), layout.copies(net)
    forms = {part.theirs: Form(torch.bfloat16, tuple(own[part.ours][part.place].shape)) for part in parts}
    forms |= {name: forms[original] for name, original in copies.items()}
    forms |= {name: Form(torch.float32, (3,)) for name in unused}
    names = list(forms)
    folder.mkdir()
    half = len(names) // 2
    shards = [{name: forms[name] for name in some} for some in (names[:half], names[half:])]
    files = Stored([create(folder / shard_name(n, 2), header(shard)) for n, shard in enumerate(shards, start=1)])
    generator = torch.Generator().manual_seed(0)
    for name, form in forms.items():
        files.tensor(name).copy_(0.05 * torch.randn(form.shape, generator=generator))
    for name, original in copies.items():
        files.tensor(name).copy_(files.tensor(original))
    index = {"metadata": {"total_size": sum(form.bytes for form in forms.values())}, "weight_map": files.place}
    (folder / INDEX).write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    return files
