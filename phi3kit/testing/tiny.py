"""The smallest sizes, net, texts and batch that still exercise everything: runs of seconds on one CPU core."""

from __future__ import annotations

from collections.abc import Callable

import torch

from phi3kit.families import Attention, FeedForward, Position, Tokenizer
from phi3kit.model import Decoder, GatedMLP, GroupedQueryAttention, RoPE
from phi3kit.records import Batch, Dims, Document

TEXTS = (
    "The lamp on the harbour wall turns twice a minute. Ships count the turns and know where they are.",
    "Boil the water first. Then add the salt, then the rice, and keep the lid on for twelve minutes.",
    "def area(width, height):\n    return width * height\n\nprint(area(3, 4))  # 12\n",
    "A prime has exactly two divisors: one and itself. So 2, 3, 5 and 7 are primes, and 1 is not.",
    "Élodie naïvely paid 12 € for a café crème in Zürich; 東京 was cheaper, she wrote. 🙂\n",
    "The river is low in summer because the snow has melted, and high in spring because it is melting.",
    "Q: Why is the sky blue?\nA: Air scatters short waves of light more than long ones.\n",
    "To sort a list, split it in two, sort each half, and merge the halves by taking the smaller head.",
)


def dims(vocab_size: int = 96, context: int = 64) -> Dims:
    """Sizes with everything in them: two layers, grouped heads, an inner width of its own."""
    return Dims(
        vocab_size=vocab_size,
        hidden_size=32,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        intermediate_size=64,
        context=context,
    )


def net(
    sizes: Dims | None = None,
    *,
    attention: Callable[[Dims, int], Attention] = GroupedQueryAttention,
    feed_forward: Callable[[Dims, int], FeedForward] = GatedMLP,
    position: Callable[[Dims], Position] = RoPE,
    seed: int = 0,
) -> Decoder:
    """A decoder with random weights large enough for its parts to matter, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = Decoder(sizes or dims(), [attention], [feed_forward], position, init_std=0.2)
    return built.eval()


def program(net: Decoder, tokens_BT: torch.Tensor) -> torch.export.ExportedProgram:
    """The net as a graph for any number of tokens, its positions fixed for its context, as in an export."""
    net.position = net.position.fixed_for(net.dims.context)
    tokens = torch.export.Dim("tokens", min=2, max=net.dims.context)
    return torch.export.export(net, (tokens_BT,), dynamic_shapes=({1: tokens},))


def documents() -> list[Document]:
    """A corpus: prose, code, numbers, questions, several scripts."""
    return [Document(id=f"tiny/{i}", text=text, source="tiny") for i, text in enumerate(TEXTS)]


def tokenizer(vocab_size: int = 512) -> Tokenizer:
    """A BPE trained on the corpus above, with Phi-3's special tokens."""
    from phi3kit.text.bpe import train_bpe

    return train_bpe((document.text for document in documents()), vocab_size=vocab_size)


def batch(sizes: Dims | None = None, *, rows: int = 2, length: int = 16, seed: int = 0) -> Batch:
    """Random tokens to predict: packed rows of two documents, every position but the last supervised."""
    sizes = sizes or dims()
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = torch.randint(sizes.vocab_size, (rows, length + 1), generator=generator)
    half = length // 2
    positions_T = torch.cat((torch.arange(half), torch.arange(length - half)))
    labels_BT = tokens_BT[:, 1:].clone()
    labels_BT[:, [half - 1, -1]] = -100  # the last token of a document predicts nothing
    return Batch(
        tokens_BT=tokens_BT[:, :-1],
        labels_BT=labels_BT,
        positions_BT=positions_T.expand(rows, -1),
        documents_BT=(torch.arange(length) >= half).long().expand(rows, -1),
        samples=list(range(rows)),
    )
