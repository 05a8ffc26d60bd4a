"""Which installed layout a checkpoint or a net has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from phi3kit import plugins
from phi3kit.errors import UserError, nearest
from phi3kit.families import Layout
from phi3kit.model.weights import to_hugging_face

# architectures that a first-party plugin reads
FIRST_PARTY = {
    "Phi3SmallForCausalLM": "phi3kit-blocksparse",
    "PhiMoEForCausalLM": "phi3kit-moe",
    "PhimoeForCausalLM": "phi3kit-moe",
    "Phi3VForCausalLM": "phi3kit-vision",
}


def installed() -> list[Layout]:
    """One of each installed layout."""
    return [component.cls() for component in plugins.load().of(Layout)]


def layout_of_config(config: Mapping[str, Any]) -> Layout:
    """The layout that reads a config.json. Raises `UserError` where none does."""
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        raise UserError('config.json names no architecture; a model\'s own has "architectures": ["Phi3ForCausalLM"]')
    layouts = installed()
    for layout in layouts:
        if named[0] in layout.architectures:
            return layout
    if named[0] in FIRST_PARTY:
        plugin = FIRST_PARTY[named[0]]
        raise UserError(
            f"{named[0]} comes with the plugin {plugin}, which is not installed; pip install -e plugins/{plugin}"
        )
    known = sorted(name for layout in layouts for name in layout.architectures)
    raise UserError(f"the architecture {named[0]!r} is not known{nearest(str(named[0]), known)}")


def layout_of_net(section: Mapping[str, Any]) -> Layout:
    """The layout that a net has. Raises `UserError` where none or several have it."""
    fitting = [layout for layout in installed() if layout.config(section) is not None]
    if not fitting:
        known = sorted(name for layout in installed() for name in layout.architectures)
        raise UserError(
            f"no public layout is known for a net of these components; {', '.join(known)} can be written "
            "(a plugin of yours may bring a Layout)"
        )
    if len(fitting) > 1:
        names = " and ".join(type(layout).__name__ for layout in fitting)
        raise UserError(f"{names} both describe this net; uninstall one of their plugins")
    return fitting[0]


def doubled(layout: Layout, net: nn.Module) -> dict[str, str]:
    """Tensors that a checkpoint may hold twice: the layout's, and the head of a net that has none of its own."""
    by_ours = {part.ours: part.theirs for part in layout.parts(net) if not part.place}
    head = {to_hugging_face("lm_head.weight"): by_ours["embed_tokens.weight"]} if net.tied else {}
    return {**head, **layout.copies(net)}
