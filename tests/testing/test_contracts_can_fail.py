"""The contracts catch components that break their family's laws, and say which law."""

from __future__ import annotations

import itertools
from functools import partial
from typing import final

import pytest
import torch
from torch import nn

from phi3kit.errors import UserError
from phi3kit.export import XNNPACK
from phi3kit.families import (
    Attention,
    Backend,
    Extractor,
    FeedForward,
    Filter,
    Position,
    Quantizer,
    Reader,
    Synthesizer,
)
from phi3kit.model import GatedMLP, GroupedQueryAttention, LongRoPE, RoPE
from phi3kit.records import Document
from phi3kit.testing import contracts


class Wrapped(Attention):
    """Real attention with one thing done wrong; not final, on purpose."""

    def __init__(self, dims, layer):
        super().__init__()
        self.inner = GroupedQueryAttention(dims, layer)

    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        return self.inner(x_BTD, rotation, documents_BT, cache)


@final
class LooksAhead(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        return super().forward(x_BTD, rotation, documents_BT, cache) + 0.01 * x_BTD.mean(1, keepdim=True)


@final
class IgnoresDocuments(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        return super().forward(x_BTD, rotation, None, cache)


@final
class ForgetsTheCache(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        if cache is not None:  # stores the new tokens, then looks at nothing else
            super().forward(x_BTD, rotation, None, cache)
        return super().forward(x_BTD, rotation, documents_BT, None)


@final
class WidensTheType(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        return super().forward(x_BTD, rotation, documents_BT, cache).float()


@final
class Silent(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        return 0 * super().forward(x_BTD, rotation, documents_BT, cache)


@final
class BranchesOnValues(Wrapped):
    def forward(self, x_BTD, rotation, documents_BT=None, cache=None):
        out_BTD = super().forward(x_BTD, rotation, documents_BT, cache)
        return out_BTD if float(out_BTD.abs().sum()) >= 0 else -out_BTD


@pytest.mark.parametrize(
    ("component", "law"),
    [
        (LooksAhead, "causal"),
        (IgnoresDocuments, "packed documents do not see each other"),
        (ForgetsTheCache, "cached steps equal the full pass"),
        (WidensTheType, "keeps shape and dtype"),
        (Silent, "passes its tokens on"),
        (BranchesOnValues, r"exports with torch\.export"),
    ],
)
def test_lawless_attention(component, law):
    with pytest.raises(contracts.LawBroken, match=f"{component.__name__}: law broken: .*{law}"):
        contracts.check(component)


def test_lawful_attention_under_the_same_wrapper():
    contracts.check(Wrapped)


@final
class MixesTokens(FeedForward):
    def __init__(self, dims, layer):
        super().__init__()
        self.inner = GatedMLP(dims, layer)

    def forward(self, x_BTD):
        return self.inner(x_BTD - x_BTD.mean(1, keepdim=True))


@final
class Narrows(FeedForward):
    def __init__(self, dims, layer):
        super().__init__()

    def forward(self, x_BTD):
        return x_BTD[..., :-1]


@pytest.mark.parametrize(("component", "law"), [(MixesTokens, "each position alone"), (Narrows, "keeps shape")])
def test_lawless_feed_forward(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


@final
class CurvedRoPE(Position):
    """Angles grow with the square of the position: no longer a matter of distance."""

    def __init__(self, dims):
        super().__init__()
        self.inner = RoPE(dims)

    def forward(self, positions_BT):
        return self.inner(positions_BT**2 % 64)


@final
class NeverFixed(Position):
    def __init__(self, dims):
        super().__init__()
        self.inner = LongRoPE(dims, [1.0] * 4, [2.0] * 4, original_context=16)

    def forward(self, positions_BT):
        return self.inner(positions_BT)

    def table_for(self, length):
        return self.inner.table_for(length)


@pytest.mark.parametrize(("component", "law"), [(CurvedRoPE, "only on their distance"), (NeverFixed, "its table")])
def test_lawless_position(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


@final
class Moody(Filter):
    def __init__(self):
        self.count = itertools.count()

    def reject(self, document):
        return "not today" if next(self.count) % 3 == 0 else None


@final
class Grunts(Filter):
    def reject(self, document):
        return "" if len(document.text) > 100 else None


@final
class Scribbles(Filter):
    def reject(self, document):
        document.metadata["seen"] = True


@pytest.mark.parametrize(
    ("component", "law"), [(Moody, "same verdict"), (Grunts, "its reason"), (Scribbles, "leaves the document")]
)
def test_lawless_filter(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


@final
class Listed(Reader):
    """Gives the documents it was made with."""

    def __init__(self, documents, once=False, bad=""):
        self.documents = documents
        self.once = once
        self.bad = bad

    def read(self):
        if self.bad:
            raise UserError(self.bad)
        yield from self.documents
        if self.once:
            self.documents = []


DOCUMENTS = [Document("a", "one"), Document("b", "two")]


def test_lawful_reader():
    bad = (partial(Listed, DOCUMENTS, bad="cannot read b.txt"), "b.txt")
    contracts.check_reader(partial(Listed, DOCUMENTS), bad)


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (partial(Listed, []), "reads something"),
        (partial(Listed, DOCUMENTS + DOCUMENTS[:1]), "comes once"),
        (partial(Listed, [Document("", "no id")]), "with an id"),
        (lambda: Listed(list(DOCUMENTS), once=True), "same documents in the same order"),
    ],
)
def test_lawless_reader(build, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Listed, build)


def test_reader_that_does_not_name_the_bad_file():
    bad = (partial(Listed, DOCUMENTS, bad="cannot read a file"), "b.txt")
    with pytest.raises(contracts.LawBroken, match="bad file is named"):
        contracts.check_reader(partial(Listed, DOCUMENTS), bad)


@final
class Hushed(Extractor):
    """Fails on anything but ASCII, without saying which file."""

    def extract(self, content, name):
        try:
            return content.decode("ascii")
        except UnicodeDecodeError as error:
            raise UserError("cannot decode") from error


def test_lawless_extractor():
    with pytest.raises(contracts.LawBroken, match="unreadable file is named"):
        contracts.check(Hushed)


@final
class Rolls(Synthesizer):
    """Makes something else every time."""

    count = itertools.count()

    def make(self, documents):
        for document in documents:
            yield Document(f"made/{next(self.count)}", document.text)


@final
class Idles(Synthesizer):
    def make(self, documents):
        return iter(())


@pytest.mark.parametrize(("component", "law"), [(Rolls, "same results"), (Idles, "makes something")])
def test_lawless_synthesizer(component, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(component)


@final
class Rounds(Quantizer):
    """Rounds weights to a grid, in place; too coarse a grid breaks the bound, too fine a one does nothing."""

    def __init__(self, step, noise=0.0, said="int", whole=1.0, weights_alone=False):
        self.step, self.noise, self.said, self.whole, self.weights_alone = step, noise, said, whole, weights_alone

    def quantize(self, part, name=""):
        for own, module in part.named_modules():
            if isinstance(module, nn.Linear):
                self.round(module, self.step * (self.whole if own == "lm_head" else 1.0))

    def round(self, module, step):
        rounded = (module.weight / step).round() * step if step else module.weight
        module.weight.copy_(rounded + self.noise * torch.randn_like(rounded))

    def describe(self):
        return {"method": self.said}


def test_lawful_quantizer():
    contracts.check(Rounds, partial(Rounds, 0.01))


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (partial(Rounds, 0.5), "within its bound"),
        (partial(Rounds, 0.0), "changes the net"),
        (partial(Rounds, 0.01, noise=0.01), "twice gives the same"),
        (partial(Rounds, 0.01, said=torch.int8), "in JSON"),
        (partial(Rounds, 0.01, whole=2.0), "part by part"),
        (partial(Rounds, 0.01, weights_alone=True), "whether its weights are alone"),
    ],
)
def test_lawless_quantizer(build, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Rounds, build)


@final
class Alters(Backend):
    """Real lowering of a program that is not the one given, or under another delegate's name."""

    def __init__(self, factor=1.0, named="XnnpackBackend", cannot=None):
        self.factor, self.named, self.cannot = factor, named, cannot or {}

    def lower(self, program, metadata):
        for name in program.state_dict:
            if name.endswith("lm_head.weight"):
                program.state_dict[name] = nn.Parameter(program.state_dict[name] * self.factor)
        return XNNPACK().lower(program, metadata)

    @property
    def delegates(self):
        return frozenset({self.named})


@pytest.mark.parametrize(
    ("build", "law"),
    [
        (partial(Alters, factor=1.01), "what the eager net does"),
        (partial(Alters, named="Other"), "no others"),
        (partial(Alters, cannot={"colour": "sees none"}), "what exports may need"),
        (partial(Alters, cannot={"vision": "sees none;\nuse eyes"}), "said in a line"),
    ],
)
def test_lawless_backend(build, law):
    with pytest.raises(contracts.LawBroken, match=law):
        contracts.check(Alters, build)
