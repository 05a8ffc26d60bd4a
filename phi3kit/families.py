"""What can be plugged: one abstract class per kind of component.

A recipe field typed with one of these accepts exactly its concrete subclasses. Components are plain
``nn.Module``s or plain classes with keyword options; what only the house knows (``dims``, ``layer``) comes
first and positional, what a recipe may choose comes after it with defaults.

Shapes: B rows, T new tokens, S cached and new tokens, D hidden, H query heads, G key/value heads, K head
width, R rotary width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from phi3kit.errors import UserError
from phi3kit.records import ChatForm, Conversation, Document, Pictures, Preference

if TYPE_CHECKING:
    from typing import Self


Programs = torch.export.ExportedProgram | Mapping[str, torch.export.ExportedProgram]  # one, or by their methods' names


class Family:
    """Marks an abstract class as a family: a class that lists `Family` among its direct bases is one."""


def family_of(component: type) -> type | None:
    """The family a component belongs to, or None."""
    return next((base for base in component.__mro__ if Family in base.__bases__), None)


# ---------------------------------------------------------------------------------------------- the net


class Rotation(NamedTuple):
    """Cosines and sines for the tokens of one forward pass, each [B, T, R], magnitude included.

    R is the number of rotated dimensions of a head; the two halves of R hold the same angles. A position that is
    fixed for a device gives matrices, too, that turn heads by a right angle, one after the other, all the same: then R
    is K, and what is not rotated has cosine 1 and sine 0.
    """

    cos_BTR: Tensor
    sin_BTR: Tensor
    turns_KK: Iterator[Tensor] | None = None


class Norm(nn.Module, Family, ABC):
    """Normalises the residual stream. Built as ``Norm(width, **options)``.

    Law: acts on each position alone; keeps shape and dtype; scaling its input does not change what comes out.
    """

    @abstractmethod
    def forward(self, x_BTD: Tensor) -> Tensor:
        """Normalise [..., D]."""


class Position(nn.Module, Family, ABC):
    """How a net tells where a token stands. Built as ``Position(dims)``.

    Law: attention scores of rotated queries and keys depend only on their distance.
    """

    @abstractmethod
    def forward(self, positions_BT: Tensor) -> Rotation:
        """Rotation for tokens at these positions (int64)."""

    def table_for(self, length: int) -> int:
        """Which table serves a sequence of `length` tokens. When generation crosses from one table to
        another, keys cached under the old one are stale and the cache is rebuilt."""
        return 0

    def fixed_for(self, context: int) -> Position:
        """The position a bundle of this context uses: one table, never switching. Default: itself."""
        return self


class Cache(ABC):
    """Keys and values of the tokens seen so far, one slot per layer, and attention over them.

    Not pluggable from a recipe, but part of `Attention`'s contract: a cache decides how attention over the
    past is computed (plain PyTorch, or ExecuTorch's fused operator in an exported program).
    """

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens stored so far, the same for every layer between two forward passes."""

    @abstractmethod
    def append(self, layer: int, k_BTGK: Tensor, v_BTGK: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values; return all of them, [B, S, G, K] each."""

    @abstractmethod
    def attend(
        self, layer: int, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGK: Tensor, *, scale: float, window: int | None
    ) -> Tensor:
        """Store the new tokens and return causal attention over everything stored, [B, T, H, K].

        `window` limits each token to the last `window` tokens, itself included; None means all.
        """


class Seen(ABC):
    """A rule that says which tokens a token sees, for J query heads of each key/value head.

    Frozen and hashable: in a program one mask serves every layer with an equal rule.
    """

    kinds: int = 1  # J; 1 where all query heads see the same

    @property
    @abstractmethod
    def reach(self) -> int:
        """In conversations of up to so many tokens each sees all before it."""

    @abstractmethod
    def seen(self, queries_T: Tensor, keys_N: Tensor) -> Tensor:
        """Whether tokens at the positions `queries` see those at `keys`, [T, J, N] bool."""


class Heads(NamedTuple):
    """Heads of one attention that follow one rule: queries, those of one key/value head side by side, [B, T, H, K];
    the new tokens' keys and values, [B, T, G, K]; and which tokens each sees."""

    q_BTHK: Tensor
    k_BTGK: Tensor
    v_BTGK: Tensor
    rule: Seen


class FixedCache(Cache):
    """A cache of fixed size, as an exported program has it: whatever a token does not see is masked."""

    @abstractmethod
    def attend_seen(self, layer: int, sets: Sequence[Heads], scale: float) -> list[Tensor]:
        """Store the new tokens and return each set's attention over what its rule lets each token see, [B, T, H, K].

        Args:
            layer: index of the layer.
            sets: as many as the attention has `stores`.
            scale: factor on q.k before the softmax.
        """


class Attention(nn.Module, Family, ABC):
    """Mixes tokens. Built as ``Attention(dims, layer, **options)``.

    Laws: causal; keeps shape and dtype; cached steps equal the full pass; packed documents do not see each
    other; exports with ``torch.export``.
    """

    @abstractmethod
    def forward(
        self,
        x_BTD: Tensor,
        rotation: Rotation,
        documents_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x_BTD: normalised residual stream.
            rotation: from the net's `Position`, for these tokens.
            documents_BT: a token sees only tokens with the same number; None: one document per row.
            cache: where earlier tokens are; excludes `documents_BT`.
        """

    def pattern(self, length: int) -> Tensor:
        """Which tokens each head lets each token see, [H or 1, length, length] bool. Default: all before it."""
        return torch.ones(1, length, length, dtype=torch.bool).tril()

    def stores(self, kv_heads: int) -> list[int]:
        """Key/value heads of each of the stores it has in a `FixedCache`. Default: one of all heads."""
        return [kv_heads]

    def on_device(self) -> nn.Module:
        """A module with the same `forward`, `stores` and weights, in the form that is exported. Default: itself."""
        return self


class Auxiliary(NamedTuple):
    """What a feed-forward wants beside the phase's loss.

    `loss` (a scalar, its coefficient included) is added to the mean loss of a step; `metrics` are logged.
    """

    loss: Tensor
    metrics: dict[str, Tensor]


class FeedForward(nn.Module, Family, ABC):
    """Transforms each token alone. Built as ``FeedForward(dims, layer, **options)``.

    Law: acts on each position alone, keeps shape and dtype.
    """

    @abstractmethod
    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transform [B, T, D] to [B, T, D]."""

    def auxiliary(self, real_BT: Tensor) -> Auxiliary | None:
        """A loss beside the phase's own (the balance of experts), about the last forward pass in training mode.

        Args:
            real_BT: false where the tokens of that pass are padding, which must not count.
        """
        return None

    def on_device(self) -> nn.Module:
        """A module with the same function and weights in the form that is exported: its matrices are `nn.Linear`, so
        that a quantizer finds them. Default: itself."""
        return self


class Routing(NamedTuple):
    """Which experts each of N tokens goes to, K of E, and how much of each one's output it takes.

    `probabilities_NE`, the softmax over all experts, is what a balance loss is computed from.
    """

    weights_NK: Tensor
    experts_NK: Tensor
    probabilities_NE: Tensor


class Router(nn.Module, Family, ABC):
    """Chooses the experts of each token. Built as ``Router(dims, n_experts, **options)``.

    Laws: K different experts per token; each token alone; the same choice every time in evaluation mode; in
    training, gradient reaches every parameter.
    """

    @abstractmethod
    def forward(self, x_ND: Tensor) -> Routing:
        """Route N tokens."""


class VisionEncoder(nn.Module, Family, ABC):
    """Images to rows of the width of the net. Built as ``VisionEncoder(dims, **options)``.

    Laws: as many rows as `count` says; an image's rows do not depend on the other images of the batch.
    """

    @property
    @abstractmethod
    def view_size(self) -> int:
        """Height and width of a view, in pixels."""

    @abstractmethod
    def forward(self, pictures: Pictures) -> Tensor:
        """Embeddings of all images one after another, [N, D]."""

    @abstractmethod
    def count(self, grid: tuple[int, int]) -> int:
        """How many rows an image with this grid of crops has."""

    def on_device(self, grid: tuple[int, int]) -> nn.Module:
        """A module with the same weights that reads one enlarged and padded image, cut into this grid of crops inside.

        Its `forward` takes the pixels, [3, rows * view, columns * view] fp32 of 0 to 255, and returns the image's rows,
        [1, N, D].

        Raises:
            UserError: it has no such form. The default.
        """
        raise UserError(f"{type(self).__name__} has no form that a device can run; export a net without vision")


# ------------------------------------------------------------------------------------ public checkpoints


class Part(NamedTuple):
    """One tensor of a public checkpoint, and where its numbers are in the net: ``state_dict[ours][place]``.

    An empty place is the whole tensor. The parts of a layout cover every number of the net exactly once.
    """

    theirs: str
    ours: str
    place: tuple[int | slice, ...] = ()


class Layout(Family, ABC):
    """A public checkpoint layout on Hugging Face: its config.json and tensor names, against a recipe's net.

    Laws: ``net(config(net)) == net``; the parts cover the net exactly once, under names that differ.
    """

    @property
    @abstractmethod
    def architectures(self) -> frozenset[str]:
        """Names in config.json's ``architectures`` that it reads."""

    @abstractmethod
    def net(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A recipe's ``net:`` section for a config.json, only plain values.

        Raises:
            UserError: the config lacks a field, or asks for what the net cannot do (which, got, instead).
        """

    @abstractmethod
    def config(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        """The config.json of such a net section; None where it is no net of this layout (other components)."""

    @abstractmethod
    def parts(self, net: nn.Module) -> list[Part]:
        """Every tensor of the checkpoint that the net uses. The net may be on the meta device."""

    def copies(self, net: nn.Module) -> dict[str, str]:
        """Tensors the checkpoint holds twice: the second name -> the name in `parts` it equals."""
        return {}

    def unused(self, name: str) -> bool:
        """Whether the checkpoint may hold this tensor though the net does not use it; it is carried along."""
        return False


# ------------------------------------------------------------------------------------------------- text


class Tokenizer(Family, ABC):
    """Text to ids and back.

    Laws: ``decode(encode(s)) == s``, but for white space beside a word that swallows it; `encode` never yields a
    special id, whatever the text says.
    """

    chat_form: ChatForm | None = None  # how its model writes conversations; None: as `phi3kit.text.template` does

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Largest id + 1."""

    @property
    @abstractmethod
    def special_tokens(self) -> Mapping[str, int]:
        """Special tokens by name, e.g. ``{"<|end|>": 32007}``."""

    @property
    @abstractmethod
    def swallows_space_after(self) -> frozenset[str]:
        """Special tokens that absorb white space following them (Hugging Face's ``rstrip``)."""

    @property
    def swallows_space_before(self) -> frozenset[str]:
        """Special tokens that absorb white space in front of them (``lstrip``). Default: none."""
        return frozenset()

    @property
    def template_tokens(self) -> Mapping[str, int]:
        """Tokens that a chat template can write by name. Default: the special ones."""
        return self.special_tokens

    @property
    def opens_with(self) -> str | None:
        """Special token every conversation begins with (a bos). Default: none."""
        return None

    @property
    def words(self) -> Mapping[str, int]:
        """Words that were added to the vocabulary whole and are not special: text yields their ids. Default: none."""
        return {}

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text; special tokens in it are text like any other."""

    def encode_after(self, text: str) -> list[int]:
        """Ids of a text that follows a special token. Override it where they are others than those of a text alone,
        as with a Llama tokenizer that marks only the beginning."""
        return self.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text. Override it where many at once are faster."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special ids appear as their names."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write whatever `load` needs into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of everything that decides ids: data made with another fingerprint does not fit."""


# ----------------------------------------------------------------------------------------------- corpus


class Extractor(Family, ABC):
    """Turns the bytes of one file into text."""

    @abstractmethod
    def extract(self, content: bytes, name: str) -> str:
        """Text of one file. Raises `phi3kit.UserError` naming the file when it cannot be read."""

    def extract_as(self, content: bytes, name: str, charset: str) -> str:
        """Text of one file whose charset something else than the file says, as a server does. Default: `extract`."""
        return self.extract(content, name)


class Reader(Family, ABC):
    """Yields documents.

    Laws: every document comes once, always in the same order, under the same id; a bad file is named.
    """

    @abstractmethod
    def read(self) -> Iterator[Document]:
        """All documents, in order."""

    def files(self) -> list[tuple[str, Path]]:
        """(name for ids, file) of every file it reads, in order, where each can be read alone. Default: none."""
        return []

    def read_file(self, name: str, file: Path) -> Iterator[Document]:
        """The documents of one of its `files`. A reader that has files reads them one after the other."""
        raise NotImplementedError


class Filter(Family, ABC):
    """Decides whether a document stays. Pure: the same document always gets the same verdict."""

    @abstractmethod
    def reject(self, document: Document) -> str | None:
        """None to keep it; otherwise the reason, in a few words a report can count by."""


class Cleaner(Family, ABC):
    """Rewrites a document's text: masks, or takes lines out.

    Laws: pure; keeps id and source; a document it does not change comes back equal; of one it does change, it adds
    to ``metadata["cleaned"]`` what it changed, and how often.
    """

    @abstractmethod
    def clean(self, document: Document) -> Document:
        """The document, cleaned. The text may be empty afterwards."""


class Splitter(Family, ABC):
    """Splits text into words. What counts as a word decides the verdicts of many filters, so reports name it.

    Laws: pure; every word is a piece of the text without white space, in the order of the text.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What manifests call it: another name wherever the words are others."""

    @abstractmethod
    def split(self, text: str) -> list[str]:
        """The words, in order."""


class Scorer(Family, ABC):
    """Says how much of an aspect a text has: "educational", "reasoning", "trivia", "toxicity" or one of your own.

    A score is an annotation; filters and phases decide by it later. Before `fit`, a scorer that learns has no
    version and gives no scores (`UserError`). Plain attributes, so that it travels to worker processes.

    Laws: deterministic after `fit`; a text has the same score alone, in a batch, after pickling, and after `save` and
    `load`, without network; other labels are another version; what is saved holds no pickles.
    """

    learns: bool = True  # False: `fit` has nothing to learn, the scorer is ready as it is
    probability: bool = False  # whether a score is the probability that a text's label is `positive` or more
    positive: float = 3.0  # labels from this on have the aspect: FineWeb-Edu keeps 3 of 5, arXiv 2406.17557, section 4

    @property
    @abstractmethod
    def aspect(self) -> str:
        """What it scores; the name of the column it fills."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Hash of everything that decides scores: it changes when the scorer is trained again."""

    @abstractmethod
    def fit(self, texts: Sequence[str], labels: Sequence[float]) -> None:
        """Learn from labels of 0 to 5. Raises `UserError` where there is nothing to tell apart."""

    @abstractmethod
    def score(self, texts: Sequence[str]) -> list[float]:
        """One finite number per text, whatever the text."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write whatever `load` needs into an existing folder: JSON and safetensors, never pickles."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, without network."""


class Labelled(NamedTuple):
    """A document and how much of an aspect it has, 0 to 5; `rationale` says why, where the annotator does."""

    document: Document
    label: float
    rationale: str = ""


class Annotator(Family, ABC):
    """Labels documents, for a scorer to learn from.

    Laws: labels are 0 to 5; documents come in the order given, as they were given, each at most once; the same
    document always gets the same label.
    """

    weak: bool = False  # labels guessed from something else than the text: reports then ask for trusted ones

    @property
    @abstractmethod
    def aspect(self) -> str:
        """What the labels are about."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Where the labels come from, in the words of a report: a file's hash, a model and its prompt."""

    @abstractmethod
    def annotate(self, documents: Iterable[Document]) -> Iterator[Labelled]:
        """The documents it has a label for, with their labels."""


class Synthesizer(Family, ABC):
    """Makes new training material out of documents: texts, conversations or preferences."""

    @abstractmethod
    def make(self, documents: Iterable[Document]) -> Iterator[Document | Conversation | Preference]:
        """Everything it makes, deterministic for the same documents in the same order."""

    def refused(self) -> Mapping[str, int]:
        """Why something was not made in the last `make`: reason -> how often. Default: nothing to tell."""
        return {}


class Seed(NamedTuple):
    """What a language model is asked about.

    `kind` is topic, passage or problem; `gold` is the known answer of a problem, "" where nobody knows it.
    """

    id: str
    text: str
    kind: str
    gold: str = ""


class Refusal(NamedTuple):
    """Why a language model's answer is not used, in a few words a report can count by."""

    reason: str


class Prompt(Family, ABC):
    """Asks a language model for training material about a seed, and reads its answer.

    Laws: pure; a seed's text is in its message; what it reads has text; an empty answer is refused; a refusal gives
    its reason in one short line; it travels by pickle.
    """

    takes: frozenset[str] = frozenset({"topic", "passage"})  # kinds of seeds

    @property
    @abstractmethod
    def version(self) -> str:
        """Hash of everything in a message but the seed, and of what decides which answers are refused."""

    @abstractmethod
    def message(self, seed: Seed) -> str:
        """What the model is asked."""

    @abstractmethod
    def read(self, seed: Seed, answer: str) -> list[Document | Conversation] | Refusal:
        """What an answer holds, without ids and sources, which are given later; or why it is not used."""


class Executor(Family, ABC):
    """Where the ranks of a stage of `prepare` run: this machine, a cluster.

    Laws: every rank that is not done runs once; one that is done does not run again; a failure ends it.
    """

    @abstractmethod
    def run(self, name: str, steps: Sequence[Any], ranks: int, log: Path) -> None:
        """Run a datatrove pipeline's ranks, and return when all have ended, well or not.

        Args:
            name: of the stage.
            steps: the pipeline; it is pickled where a rank runs elsewhere.
            ranks: how many there are.
            log: folder of datatrove's completion marks; a rank that has one is done.

        Raises:
            UserError: the ranks could not be started, or one was killed.
        """


# ------------------------------------------------------------------------------------------------ export


class Quantizer(Family, ABC):
    """Replaces weights by low-bit ones, in place.

    Laws: the error stays within its stated bound; quantized part by part, in order, a net is what it is quantized at
    once. The parts of a net are ``embed_tokens``, each block ``layers.0``, ``layers.1`` …, and ``lm_head``.
    """

    calibrated: bool = False  # True: it wants text; blocks and head come with `run`, the net at once is refused

    surveys: bool = False  # True: it wants to see every part, float, before `plan` and the first part to quantize

    weights_alone: bool = False  # True: linear layers take their inputs as they come, and do not round them to 8 bits

    def survey(self, part: nn.Module, name: str, run: Callable[[], Iterator[Tensor]]) -> None:
        """See a float part (also ``norm``) with what it puts out on the text. It is left as it is. Default: no look."""
        return None

    def plan(self, net: nn.Module) -> None:
        """See the whole net, perhaps on the meta device, before its first part comes. Default: nothing to plan.

        Raises:
            UserError: it cannot quantize this net.
        """
        return None

    @abstractmethod
    def quantize(self, part: nn.Module, name: str = "") -> None:
        """Quantize the linear layers and embeddings of a net, or of one of its parts; it becomes fp32 elsewhere.

        Args:
            part: with its weights.
            name: of the part in the net, "layers.3"; "" for the whole net.
        """

    def quantize_block(self, block: nn.Module, name: str, run: Callable[[], Iterator[Tensor]]) -> None:
        """`quantize` for a part whose inputs on the calibration text are known. Default: `quantize`.

        Args:
            block: a block of the net, or its head.
            name: of the part in the net.
            run: runs the part, as it is at that moment, on each of its inputs; its outputs one after the other.
        """
        self.quantize(block, name)

    def bytes(self, net: nn.Module) -> dict[str, int]:
        """Size in a program of every layer that it quantizes, by name. Default: none is known, all count as floats.

        Args:
            net: may be on the meta device.
        """
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Bits, group sizes and method, as `bundle.json` and reports state them."""


Form = Literal["dynamic", "batch of one", "one token"]  # of programs: any length, also in operators of Vulkan, or fixed
Need = Literal["int8 cache", "slide", "vision", "windows", "rounded inputs", "weights alone"]  # of an export


class Backend(Family, ABC):
    """Lowers an exported program to a device.

    Laws: the lowered program computes what the eager net does; what it cannot do is said in one line each.
    """

    not_here: ClassVar[Mapping[str, str]] = {  # tried with ExecuTorch 1.4.1's wheel on Linux
        "CUDA": "it needs a GPU and triton where the program is made",
        "EthosU": "it takes nets that its own tools have quantized, and no cache",
        "MediaTek": "it needs mtk_converter, which is not public",
        "Metal": "it needs a library that is on Macs only",
        "MLX": "it is made on Macs only",
        "MPS": "it lowers one fixed length, and a chat has many",
        "OpenVINO": "it fails on a position that only a run knows",
        "QNN": "it needs Qualcomm's SDK, which it downloads when it is imported",
        "Samsung": "its exporter is not in ExecuTorch's wheel",
    }
    note: ClassVar[str] = ""  # what a bundle of it says beside everything else
    cannot: ClassVar[Mapping[Need, str]] = {}  # why not, and what to do instead: asked before anything is quantized
    form: ClassVar[Form] = "dynamic"  # of the programs it lowers
    copies: ClassVar[int] = 1  # times the program's size that lowering takes of memory

    @abstractmethod
    def lower(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
    ) -> bytes:
        """The `.pte` file's content.

        Args:
            program: what becomes the method ``forward``, or several by the names of their methods.
            metadata: its constant methods.
        """

    def write(
        self,
        program: Programs,
        metadata: Mapping[str, Any],
        file: Path,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """Write what `lower` gives. Override it where a large program need not be in memory at once.

        Args:
            program: as `lower`'s.
            metadata: as `lower`'s.
            file: the `.pte`.
            release: gives memory of weights back that can be read again; to be called now and then.
        """
        file.write_bytes(self.lower(program, metadata))

    @property
    @abstractmethod
    def delegates(self) -> frozenset[str]:
        """Names of the delegates a program lowered by this backend may contain."""
