"""What is looked up faster while a program is lowered is what torch and ExecuTorch find."""

from __future__ import annotations

import operator
import random
from types import SimpleNamespace

import pytest
import torch
from torch import fx
from torch.export.graph_signature import ExportGraphSignature
from torch.fx.passes.infra.partitioner import Partition

from phi3kit.export.quick_lowering import Reach, _Forgetful, _Inputs, _mergeable, in_order, quick


def graph(seed: int, size: int = 40) -> fx.GraphModule:
    """Sums of what stands up to eight places before them."""
    choose, made = random.Random(seed), fx.Graph()
    nodes = [made.placeholder("x")]
    for _ in range(size):
        before = nodes[-8:]
        nodes.append(made.call_function(operator.add, (choose.choice(before), choose.choice(before))))
    made.output(nodes[-1])
    return fx.GraphModule(torch.nn.Module(), made)


@pytest.mark.parametrize("seed", range(5))
def test_partitions_may_be_merged_where_executorch_says_so(seed):
    from executorch.exir.backend.canonical_partitioners import group_partitioner

    module, choose, said = graph(seed), random.Random(seed), []
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    ours = SimpleNamespace(dependency_viewer=Reach(module))
    theirs = SimpleNamespace(dependency_viewer=group_partitioner._DependencyViewer(module))
    merge = group_partitioner.GroupBasedPartitioner._can_merge_partitions
    for trial in range(200):
        begin = choose.randrange(len(nodes) - 8)
        some = choose.sample(nodes[begin : begin + 8], 5)
        partitions = {2 * trial: Partition(2 * trial, some[:3]), 2 * trial + 1: Partition(2 * trial + 1, some[3:])}
        wanted = merge(theirs, 2 * trial, 2 * trial + 1, partitions)
        assert _mergeable(ours, 2 * trial, 2 * trial + 1, partitions) is wanted
        said.append(wanted)
    assert 20 < sum(said) < 180  # both happen


def test_a_partition_that_has_grown_is_looked_at_again():
    module = graph(0)
    nodes = [node for node in module.graph.nodes if node.op == "call_function"]
    reach = Reach(module)
    one, more = reach.of(0, nodes[:1]), reach.of(0, nodes[:2])
    assert one[0].bit_count() == 1
    assert more[0].bit_count() == 2
    assert more == Reach(module).of(7, nodes[:2])


def test_inputs_are_found_once_for_as_long_as_a_function_runs():
    """Between two calls a signature may change."""
    layer = torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),))
    signature, inputs = layer.graph_signature, _Inputs()
    name = "inputs_to_parameters"
    remembered = inputs.remembering(getattr(ExportGraphSignature, name)).fget
    assert remembered is not None
    assert dict(remembered(signature)) == {"p_weight": "weight", "p_bias": "bias"}
    twice = inputs.found_once(lambda: (remembered(signature), remembered(signature)))
    first, second = twice()
    assert first is second
    assert remembered(signature) is not first
    signature.input_specs[0].target = "other"
    assert twice()[0]["p_weight"] == "other"
    stays = inputs.found_once(lambda: remembered(signature), ever=True)
    assert stays() is stays()


@pytest.mark.parametrize("seed", range(5))
def test_nodes_are_put_in_the_order_of_torch(seed):
    """Names, arguments and the order of users, on which the next order depends."""
    from torch.fx.passes.tools_common import legalize_graph

    def all_of(module: fx.GraphModule) -> list[tuple[str, str, str]]:
        return [(node.name, str(node.args), str(list(node.users))) for node in module.graph.nodes]

    ours, theirs = graph(seed), graph(seed)
    before = all_of(ours)
    assert all_of(in_order(ours)) == all_of(legalize_graph(theirs)) != before
    assert all_of(in_order(ours)) == all_of(legalize_graph(theirs))
    ours.recompile()
    assert ours(1) == graph(seed)(1)


def test_a_cycle_is_said():
    module = graph(0)
    nodes = list(module.graph.nodes)
    nodes[3].args = (nodes[30], nodes[31])
    with pytest.raises(RuntimeError, match="has cycles"):
        in_order(module)


def test_everything_is_as_before_outside():
    def patched() -> list[object]:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir.backend.canonical_partitioners import group_partitioner

        partitioner = group_partitioner.GroupBasedPartitioner
        return [
            ExportGraphSignature.inputs_to_parameters,
            XnnpackPartitioner.partition,
            group_partitioner._DependencyViewer,
            partitioner._can_merge_partitions,
            partitioner._process_all_nodes,
        ]

    before = patched()
    with quick():
        assert all(one is not other for one, other in zip(patched(), before, strict=True))
    assert all(one is other for one, other in zip(patched(), before, strict=True))


def test_other_partitioners_find_what_they_found():
    from torch.fx.passes.infra import partitioner

    module = graph(0)
    nodes = list(module.graph.nodes)
    wanted = partitioner._DependencyViewer(module).downstreams_of(nodes[5])
    with quick():
        assert partitioner._DependencyViewer(module).downstreams_of(nodes[5]) == wanted != set()


def test_what_nobody_asks_is_not_kept():
    reached = _Forgetful()
    reached[1].add(2)
    reached[1].update(reached[3])
    assert not reached[1]
