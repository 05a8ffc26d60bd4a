"""A net whose parameters, gradients and optimizer states are spread over the devices (FSDP2, arXiv 2304.11277).

Special here: only the first process holds the whole net in memory, to begin with; the others get their shares.
"""

from __future__ import annotations

from typing import Any

from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from phi3kit.errors import UserError
from phi3kit.model import Decoder

ENTRANCES = ("hidden", "logits")  # what phases call; gathering hangs on them, as it does on `forward`


def shard(net: Decoder, mesh: DeviceMesh) -> None:
    """Spread a net over the data-parallel devices, a block at a time; once.

    Args:
        net: whole in the first process; in the others it may be on the meta device.
        mesh: of Lightning's `ModelParallelStrategy`, with the dimensions data_parallel and tensor_parallel.

    Raises:
        UserError: the mesh splits single tensors, which phi3kit does not do.
    """
    if mesh["tensor_parallel"].size() != 1:
        raise UserError(
            f"tensor_parallel_size is {mesh['tensor_parallel'].size()}; phi3kit shards over data_parallel only: "
            "set tensor_parallel_size: 1 and data_parallel_size to the number of devices"
        )
    if isinstance(net, FSDPModule):
        return
    whole = net.state_dict()
    for block in net.layers:
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(net, mesh=mesh["data_parallel"])
    for name in ENTRANCES:
        register_fsdp_forward_method(net, name)
    _share_out(net, whole, mesh.device_type)


def _share_out(net: Decoder, whole: dict[str, Any], device: str) -> None:
    """Give every process its part of the first one's numbers."""
    if net.embed_tokens.weight.is_meta:
        net.to_empty(device=device)
        if net.tied:
            net.lm_head.weight = net.embed_tokens.weight
        whole = {}
    set_model_state_dict(net, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
