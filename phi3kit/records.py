"""What travels between the rooms: sizes, documents, conversations, preferences, batches.

Plain data, no behaviour beyond what the data itself implies. Importing this file imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from phi3kit.bounds import AtLeastOne, Bound
from phi3kit.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Dims:
    """The sizes every part of a net shares (Phi-3 Technical Report, section 2).

    Args:
        vocab_size: rows of the embedding and of the output head.
        hidden_size: width of the residual stream.
        n_layers: number of blocks.
        n_heads: query heads per layer.
        n_kv_heads: key/value heads per layer; null means as many as query heads.
        head_dim: width of one head; null means hidden_size / n_heads.
        intermediate_size: inner width of the feed-forward; null means 8/3 of hidden_size, rounded to 32.
        context: the longest sequence the net is meant for, in tokens.
    """

    vocab_size: Annotated[int, Bound(least=1, most=2**24)]
    hidden_size: Annotated[int, Bound(least=1, most=2**20)]
    n_layers: Annotated[int, Bound(least=1, most=2**12)]
    n_heads: AtLeastOne
    n_kv_heads: AtLeastOne | None = None
    head_dim: AtLeastOne | None = None
    intermediate_size: AtLeastOne | None = None
    context: Annotated[int, Bound(least=1, most=2**30)] = 4096

    def __post_init__(self) -> None:
        fill = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 (frozen)
        if self.n_kv_heads is None:
            fill("n_kv_heads", self.n_heads)
        if self.head_dim is None:
            if self.hidden_size % self.n_heads:
                raise UserError(
                    f"hidden_size {self.hidden_size} is not a multiple of n_heads {self.n_heads}; "
                    "change one of them or give head_dim"
                )
            fill("head_dim", self.hidden_size // self.n_heads)
        if self.intermediate_size is None:
            fill("intermediate_size", -(-self.hidden_size * 8 // 3 // 32) * 32)
        if self.n_heads % self.kv_heads:
            raise UserError(
                f"n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}; "
                "every key/value head serves the same number of query heads"
            )

    @property
    def kv_heads(self) -> int:
        """`n_kv_heads`, filled in."""
        assert self.n_kv_heads is not None
        return self.n_kv_heads

    @property
    def head_width(self) -> int:
        """`head_dim`, filled in."""
        assert self.head_dim is not None
        return self.head_dim

    @property
    def inner_width(self) -> int:
        """`intermediate_size`, filled in."""
        assert self.intermediate_size is not None
        return self.intermediate_size


@dataclass(frozen=True)
class Document:
    """One text of a corpus.

    Args:
        id: unique and stable: the same document read twice has the same id.
        text: the text itself.
        source: where it came from, in the words a report would use ("pydoc", "wiki.jsonl").
        metadata: anything else; filters and scorers may read it.
    """

    id: str
    text: str
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One turn of a chat.

    Args:
        role: who speaks; ``tool`` is what a tool answered to an assistant's call.
        content: the text, as it was written.
        learned: whether the loss falls on it, where it is an assistant's (OpenAI's ``weight``: 0 is False).
        tools: of a system turn: the tools that it declares, each as OpenAI's ``tools`` describe one.
        tool_calls: of an assistant's turn: the calls that it makes, each as OpenAI's ``tool_calls`` describe one.
        reasoning: of an assistant's turn: what it thought before its answer (``reasoning_content``).
        name: who speaks within the role (OpenAI's ``name``); of a tool's turn, which tool.
    """

    role: Role
    content: str
    learned: bool = True
    tools: tuple[dict[str, Any], ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()
    reasoning: str = ""
    name: str = ""

    @property
    def said(self) -> str:
        """All that it says: what it thought, its text, its calls."""
        calls = json.dumps(self.tool_calls, ensure_ascii=False, default=str) if self.tool_calls else ""
        return "\n\n".join(filter(None, (self.reasoning, self.content, calls)))


@dataclass(frozen=True)
class ChatForm:
    """How a public model writes conversations, where that is not this family's way.

    Args:
        template: Jinja, as `chat_template.jinja` holds it; empty: the family's own template, with other stops.
        stops: ids that end an answer, the one that closes a turn first.
        tokens: what the template may call by name (``bos_token``, ``eos_token``, …).
        tool_template: the template for conversations that declare tools, where it is one of its own.
    """

    template: str
    stops: tuple[int, ...]
    tokens: dict[str, str] = field(default_factory=dict, hash=False)
    tool_template: str = ""


@dataclass(frozen=True)
class Conversation:
    """A chat to learn from, or to be asked: the loss falls on its assistant turns.

    Args:
        messages: the turns in order.
        id: unique within its file.
        metadata: anything else (the kind of question, the object it is about).
        images: files of the images that its ``<|image_k|>`` tags mean, as its own file gives them.
        place: file and line it was read from, for messages.
    """

    messages: tuple[Message, ...]
    id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    place: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Preference:
    """A prompt with a better and a worse answer, each a list of turns; `images` and `place` as in `Conversation`."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    images: tuple[str, ...] = ()
    place: str = field(default="", compare=False, repr=False)


@dataclass
class Pictures:
    """The images of one forward pass, in the order in which their tokens come, row by row.

    Not frozen: Lightning refuses to move a frozen dataclass to a device.

    Args:
        pixels_VCYX: normalised views of all images, one image's after the other's, [V, 3, height, width].
        grids: rows and columns of crops of each image; an image has 1 + rows * columns views, the whole one first.
    """

    pixels_VCYX: Tensor
    grids: list[tuple[int, int]]


@dataclass
class Batch:
    """What one step of training sees. Shapes: B rows, T tokens.

    Args:
        tokens_BT: token ids, int64; negative where a row of an image's embedding stands instead of a token.
        labels_BT: the id each position must predict (already shifted), or -100 where no loss falls.
        positions_BT: position of each token within its own document, int64.
        documents_BT: number of the document each token belongs to within its row, int64; a token sees
            only tokens of its own document. Padding is document -1.
        samples: which samples of the data set are in here, for logs and the proof of exact resumption.
        pictures: the images behind the negative ids; None where there are none.
        replay: text that the net learned before, to learn beside this batch; None where nothing is replayed.
    """

    tokens_BT: Tensor
    labels_BT: Tensor
    positions_BT: Tensor
    documents_BT: Tensor
    samples: list[int] = field(default_factory=list)
    pictures: Pictures | None = None
    replay: Batch | None = None
