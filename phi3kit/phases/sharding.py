"""A net whose parameters, gradients and optimizer states are spread over the devices (FSDP2, arXiv 2304.11277)."""

from __future__ import annotations

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from phi3kit.errors import UserError
from phi3kit.model import Decoder

ENTRANCES = ("hidden", "logits")  # what phases call; gathering hangs on them, as it does on `forward`


def shard(net: Decoder, mesh: DeviceMesh) -> None:
    """Spread a net over the data-parallel devices, a block at a time; once.

    Args:
        net: whole, the same on every device.
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
    for block in net.layers:
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(net, mesh=mesh["data_parallel"])
    for name in ENTRANCES:
        register_fsdp_forward_method(net, name)
