"""Many texts read by the quantized net in PyTorch, layer by layer.

Special here: torchao rebuilds a quantized matrix in fp32 for every product with it, which takes longer than the product
where a text is short. All texts pass a layer before the first passes the next, and meanwhile each of its matrices is
rebuilt once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final
from unittest import mock

import torch
from torch import Tensor, nn

from phi3kit.native_output import silenced

if TYPE_CHECKING:
    from phi3kit.export.program import Program

MOST = 2**31  # bytes of rebuilt matrices that are remembered; further ones are rebuilt every time
PIECE = 2**20  # numbers that are rebuilt together


@final
@dataclass(frozen=True)
class Reading:
    """Ids to be read from a position on, over whatever the reading before has stored there.

    Args:
        ids: at least one.
        start: position of the first.
        last: logits are wanted after so many of the last ids; None: after each.
    """

    ids: Sequence[int]
    start: int = 0
    last: int | None = None


@final
@dataclass(frozen=True)
class Change:
    """A reading once more, with another input of one layer.

    Args:
        of: number of the reading, which begins at position 0.
        layer: a part of a block, or the head.
        change: its input -> what it gets instead.
    """

    of: int
    layer: nn.Module
    change: Callable[[Tensor], Tensor]


@torch.no_grad()
def read(program: Program, readings: Sequence[Reading], changes: Sequence[Change] = ()) -> Iterator[Tensor]:
    """Logits after the ids of each reading, then of each change, [T, V].

    Of a change only what comes after the changed layer is computed. The last layer's outputs are in memory together,
    the logits one after the other.

    Args:
        program: the quantized net; its cache is used.
        readings: each stores what it reads before the next one does, in every layer.
        changes: of the readings; they begin where those did.
    """
    net, changed = program.net, dict[int, _State]()
    with Rebuilt():
        states = [_State.of(program, each) for each in readings]
    for block in net.layers:
        parts = set(block.modules())
        begun = [(number, each) for number, each in enumerate(changes) if each.layer in parts]
        copies = [states[each.of].copy() for _, each in begun]
        with silenced(), Rebuilt():  # ExecuTorch's operators log "No temp allocator provided" with every eager call
            for state in [*states, *changed.values()]:
                state.through(program, block)
            for (number, change), state in zip(begun, copies, strict=True):
                with _hooked(change):
                    state.through(program, block)
                changed[number] = state
    head = Rebuilt()
    for state in states:
        with head:
            logits_TV = net.logits(net.norm(state.last_TD))
        yield logits_TV
    for number, change in enumerate(changes):
        with head, contextlib.nullcontext() if number in changed else _hooked(change):
            logits_TV = net.logits(net.norm(changed.get(number, states[change.of]).last_TD))
        yield logits_TV


@dataclass
class _State:
    """Where a reading is: the next block's input, in as many pieces as the program reads one after the other.

    Args:
        reading: what is read.
        pieces: [1, T, D] each.
        places: of each piece, the position of its first token and the rotation of all.
    """

    reading: Reading
    pieces: list[Tensor]
    places: list[tuple[Tensor, Any]]

    @classmethod
    def of(cls, program: Program, reading: Reading) -> _State:
        net, step = program.net, program.step
        pieces, places = [], []
        for at in range(0, len(reading.ids), step):
            ids_1T, start = torch.tensor([list(reading.ids[at : at + step])]), reading.start + at
            pieces.append(net.embed(ids_1T))
            places.append((torch.tensor([start]), net.position((start + torch.arange(ids_1T.shape[1]))[None])))
        return cls(reading, pieces, places)

    def copy(self) -> _State:
        return _State(self.reading, list(self.pieces), self.places)

    def through(self, program: Program, block: nn.Module) -> None:
        for number, (first_1, rotation) in enumerate(self.places):
            program.cache.begin(first_1, self.pieces[number].shape[1])
            self.pieces[number] = block(self.pieces[number], rotation, None, program.cache)

    @property
    def last_TD(self) -> Tensor:
        """Of the tokens after which logits are wanted."""
        whole_TD = torch.cat([piece_1TD[0] for piece_1TD in self.pieces])
        return whole_TD if self.reading.last is None else whole_TD[-self.reading.last :]


@contextlib.contextmanager
def _hooked(change: Change) -> Iterator[None]:
    hook = change.layer.register_forward_pre_hook(lambda module, inputs: (change.change(inputs[0]),))
    try:
        yield
    finally:
        hook.remove()


def _in_pieces(rebuild: Callable[[Any], Tensor], matrix: Any) -> Tensor:
    """The matrix rebuilt some rows at a time: what torchao needs meanwhile stays in the processor's cache, not three
    times the matrix in memory."""
    rows = max(1, PIECE // matrix.shape[1])
    if rows >= len(matrix) or matrix.block_size[0] != 1:
        return rebuild(matrix)
    found = torch.empty(matrix.shape, dtype=matrix.dtype)
    for start in range(0, len(matrix), rows):
        found[start : start + rows] = rebuild(matrix[start : start + rows])
    return found


@final
class Rebuilt:
    """While it is entered, a quantized matrix is rebuilt at its first use and remembered as long as this is."""

    def __init__(self) -> None:
        # by the id of the integers, which are held so that it stays theirs
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        self._bytes = 0

    def __enter__(self) -> None:
        from torchao.quantization import IntxUnpackedToInt8Tensor

        rebuild = IntxUnpackedToInt8Tensor.dequantize

        def remembered(matrix: Any) -> Tensor:
            key = id(matrix.qdata)
            if key in self._known:
                return self._known[key][1]
            with torch.inference_mode(False), torch.no_grad():  # in that mode torchao cannot take rows of a matrix
                found = _in_pieces(rebuild, matrix)
            if self._bytes + found.nbytes <= MOST:
                self._known[key] = (matrix.qdata, found)
                self._bytes += found.nbytes
            return found

        self._patch = mock.patch.object(IntxUnpackedToInt8Tensor, "dequantize", remembered)
        self._patch.start()

    def __exit__(self, *error: object) -> None:
        self._patch.stop()
        del self._patch  # it holds this, and this it: what is remembered would stay until Python looks for such rings
