"""Which layers of a net, or of one of its parts, are quantized, and onto which grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from phi3kit.quantizers.grid import GROUP_UNIT, EmbeddingGrid, LinearGrid, check_divides

HEAD = "lm_head"


@dataclass(frozen=True)
class Grids:
    """A grid for each kind of layer.

    Args:
        linear: of the linear layers inside the blocks.
        head: of the output head, where errors cost most.
        embedding: of embeddings.
    """

    linear: LinearGrid
    head: LinearGrid
    embedding: EmbeddingGrid

    def of_linear(self, name: str) -> LinearGrid:
        """The grid of the linear layer of that name."""
        return self.head if is_head(name) else self.linear

    def check(self, part: nn.Module, name: str = "") -> None:
        """Raise `UserError` where a layer's width is no multiple of its group. The part may be on the meta device."""
        linear = {n: m.in_features for n, m in linears(part, name) if self.of_linear(n).group_size is not None}
        group_size = self.linear.group_size or self.head.group_size
        check_divides("group_size", group_size, linear, GROUP_UNIT)
        widths = {n: m.embedding_dim for n, m in embeddings(part, name)}
        check_divides("embedding_group", self.embedding.group_size, widths, 4)

    def bytes(self, part: nn.Module, name: str = "") -> dict[str, int]:
        """Size of every layer in a program, by name; what is not quantized does not count."""
        sizes = {n: self.of_linear(n).bytes(m.out_features, m.in_features) for n, m in linears(part, name)}
        found = {n: self.embedding.bytes(m.num_embeddings, m.embedding_dim) for n, m in embeddings(part, name)}
        return found | sizes


def linears(part: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers under their names in the net."""
    return ((_joined(name, own), m) for own, m in part.named_modules() if isinstance(m, nn.Linear))


def embeddings(part: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Embedding]]:
    """Embeddings under their names in the net."""
    return ((_joined(name, own), m) for own, m in part.named_modules() if isinstance(m, nn.Embedding))


def is_head(name: str) -> bool:
    """Whether a layer of this name is the output head."""
    return name.rpartition(".")[2] == HEAD


def _joined(part: str, own: str) -> str:
    return ".".join(filter(None, (part, own)))
