"""ExecuTorch's lowering (1.4.1) of graphs with many thousand nodes, without what takes the square of their number.

A mixture of experts has forty times the matrices of a dense net. Special here, because nothing offers hooks: three
habits of torch and ExecuTorch are changed while `quick` is entered. What they answer is the same.

- A graph's signature makes a dictionary of all its parameters whenever one is asked for. Where nothing changes the
  signature meanwhile, it is made once.
- Before two groups of nodes are merged, every node after one of them is looked for in both, in sets that hold for each
  node all that come after it. As bits of one number that is three operations on numbers.
- After each group that becomes a node of its own, the whole graph is copied in another order and written as Python that
  nobody runs. The nodes change places instead.
"""

from __future__ import annotations

import contextlib
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any, final
from unittest import mock

import torch
from torch import fx
from torch.export.graph_signature import ExportGraphSignature

INPUTS = ("inputs_to_parameters", "inputs_to_buffers", "inputs_to_lifted_tensor_constants")
ARITHMETIC = ("add", "mul", "sub", "floordiv", "truediv", "mod", "le", "lt", "ge", "gt", "eq", "ne")
ASSERTIONS = (
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten.scalar_tensor.default,
    torch.ops.aten._assert_scalar.default,
)
AT_ONCE = frozenset((*(getattr(operator, name) for name in ARITHMETIC), *ASSERTIONS))  # torch puts them first
_Known = dict[tuple[int, str], tuple[ExportGraphSignature, Mapping[str, str]]]


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Lowering inside takes time in proportion to the number of nodes, nearly."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import lowered_backend_module
    from executorch.exir.backend import backend_api
    from executorch.exir.backend.canonical_partitioners import group_partitioner
    from executorch.exir.backend.canonical_partitioners.config_partitioner import ConfigerationBasedPartitioner
    from torch.export import exported_program
    from torch.fx.passes.infra import partitioner

    inputs, partitions = _Inputs(), group_partitioner.GroupBasedPartitioner
    populate, partition = exported_program._populate_param_buffer_metadata_to_new_gm, XnnpackPartitioner.partition
    same_tag = backend_api._get_node_list_with_same_tag
    keep, assign = ConfigerationBasedPartitioner.ops_to_not_decompose, partitions._process_all_nodes

    def kept(self: Any, program: Any) -> tuple[list[Any], Callable[[fx.Node], bool] | None]:
        operators, wanted = keep(self, program)
        return operators, wanted and inputs.found_once(wanted, ever=True)

    def assigned(self: Any, *arguments: Any) -> None:
        *others, _ = arguments
        assign(self, *others, _Forgetful())

    with contextlib.ExitStack() as stack:
        for name in INPUTS:
            original = getattr(ExportGraphSignature, name)
            stack.enter_context(mock.patch.object(ExportGraphSignature, name, inputs.remembering(original)))
        for where, name, instead in (
            (exported_program, populate.__name__, inputs.found_once(populate)),
            (XnnpackPartitioner, "partition", inputs.found_once(partition)),
            (backend_api, same_tag.__name__, inputs.found_once(same_tag)),
            (lowered_backend_module, "legalize_graph", in_order),
            (ConfigerationBasedPartitioner, "ops_to_not_decompose", kept),
            (partitioner, "_DependencyViewer", partial(_OnDemand, partitioner._DependencyViewer)),
            (group_partitioner, "_DependencyViewer", Reach),
            (partitions, "_can_merge_partitions", _mergeable),
            (partitions, "_process_all_nodes", assigned),
        ):
            stack.enter_context(mock.patch.object(where, name, instead))
        yield


@final
class _Inputs:
    """What a signature's inputs are, found once for as long as a function runs that changes no signature."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    def remembering(self, original: property) -> property:
        """The same property; remembered where it may be."""
        find = original.fget
        assert find is not None

        def found(signature: ExportGraphSignature) -> Mapping[str, str]:
            if self._known is None:
                return find(signature)
            key = id(signature), find.__name__
            if key not in self._known:
                self._known[key] = signature, find(signature)  # held, so that the id stays its own
            return self._known[key][1]

        return property(found)

    def found_once(self, function: Callable[..., Any], *, ever: bool = False) -> Callable[..., Any]:
        """The same function; each of its calls looks at a signature once, or all of them together do."""
        together: _Known | None = {} if ever else None

        def run(*arguments: Any, **options: Any) -> Any:
            before, self._known = self._known, {} if together is None else together
            try:
                return function(*arguments, **options)
            finally:
                self._known = before

        return run


@final
class _OnDemand:
    """A viewer that looks at a graph when it is asked: the partitioner of groups makes one, and then one of its own.

    Args:
        viewer: what makes it.
        module: whose graph does not change meanwhile.
    """

    def __init__(self, viewer: Callable[[fx.GraphModule], Any], module: fx.GraphModule) -> None:
        self._make = cache(lambda: viewer(module))

    def downstreams_of(self, node: fx.Node) -> set[fx.Node]:
        """All that come after a node."""
        return self._make().downstreams_of(node)


class _Nothing(set[int]):
    """A set that stays empty."""

    def add(self, number: int) -> None:
        pass

    def update(self, *numbers: Iterable[int]) -> None:
        pass


class _Forgetful(dict[int, set[int]]):
    """Which partitions a partition reaches, which nobody asks: a number for each two of them."""

    def __missing__(self, number: int) -> set[int]:
        return _Nothing()


@final
class Reach:
    """Which nodes come before which, in the place of ExecuTorch's ``_DependencyViewer``: a bit for each node.

    Args:
        module: whose graph does not change meanwhile.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self._bits = {node: 1 << number for number, node in enumerate(module.graph.nodes)}
        self._above: dict[fx.Node, int] = {}
        for node in module.graph.nodes:
            above = 0
            for source in node.all_input_nodes:
                above |= self._bits[source] | self._above[source]
            self._above[node] = above
        self._groups: dict[int, tuple[int, tuple[int, int, int]]] = {}

    def of(self, number: int, nodes: Iterable[fx.Node]) -> tuple[int, int, int]:
        """The nodes of a partition, their users, and all that come before them, as bits.

        Args:
            number: of the partition, which only grows.
            nodes: in it.
        """
        nodes = list(nodes)
        size, found = self._groups.get(number, (0, (0, 0, 0)))
        if size != len(nodes):
            within = users = above = 0
            for node in nodes:
                within |= self._bits[node]
                above |= self._above[node]
                for user in node.users:
                    users |= self._bits[user]
            found = within, users, above
            self._groups[number] = len(nodes), found
        return found


def _mergeable(self: Any, one: int, other: int, partitions: Mapping[int, Any]) -> bool:
    """Whether no way leads out of two partitions and back into them."""
    reach = self.dependency_viewer
    first, second = (reach.of(number, partitions[number].nodes) for number in (one, other))
    within, users, above = (mine | its for mine, its in zip(first, second, strict=True))
    return not users & ~within & above


def in_order(module: fx.GraphModule) -> fx.GraphModule:
    """The module, the nodes of its graph in the order that ``torch.fx.passes.tools_common.legalize_graph`` gives them:
    breadth first from those that need nothing. Its Python is not written anew."""
    graph, order = module.graph, list[fx.Node]()
    wanted = dict.fromkeys(graph.nodes, 0)
    for node in graph.nodes:
        for user in node.users:
            wanted[user] += 1
    ready = deque(node for node, count in wanted.items() if not count)
    while ready:
        node = ready.popleft()
        order.append(node)
        for user in node.users:
            wanted[user] -= 1
            if not wanted[user]:
                (ready.appendleft if user.target in AT_ONCE else ready.append)(user)
    if len(order) < len(wanted):
        raise RuntimeError(f"the graph has cycles: {[node for node, count in wanted.items() if count]}")
    for node in order:
        graph._root.prepend(node)
        node.users.clear()
    for node in order:  # users too are in the order in which a copy would have made them
        for source in node.all_input_nodes:
            source.users[node] = None
    return module
