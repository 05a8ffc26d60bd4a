"""Mail addresses, telephone numbers, cards, keys: to be masked, or a reason to reject.

Patterns find candidates, checksums and registries decide where there are any: cards by Luhn's rule (ISO/IEC 7812-1),
bank accounts by ISO 7064's mod 97, addresses of the net by what is globally reachable.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

from phi3kit.corpus.filters.cleaned import cleaned
from phi3kit.errors import UserError, nearest
from phi3kit.families import Cleaner, Filter
from phi3kit.records import Document


class Kind(NamedTuple):
    """What gives it away, what a match must be, and pieces of which every match has one (quicker than the pattern)."""

    pattern: re.Pattern[str]
    check: Callable[[str], bool]
    signs: tuple[str, ...] = ("",)


def _is_private(address: str) -> bool:
    return not address.lower().endswith(("@example.com", "@example.org", "@example.net"))  # RFC 2606, section 3


def _is_global(address: str) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(address).is_global
    except ValueError:  # 01.2.3.4
        return False


def _is_card(number: str) -> bool:
    digits = [int(d) for d in number if d.isdigit()]
    odd, even = digits[-1::-2], digits[-2::-2]
    return len(set(digits)) > 1 and (sum(odd) + sum(sum(divmod(2 * d, 10)) for d in even)) % 10 == 0


def _is_account(number: str) -> bool:
    compact = number.replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _always(_: str) -> bool:
    return True


OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
KEYS = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{22,}\b"
    r"|\bsk-[A-Za-z0-9_-]{20,}\b|\bAIza[\w-]{35}\b|\bxox[abprs]-[\w-]{10,}\b|\bhf_[A-Za-z0-9]{30,}\b"
)
KEY_SIGNS = (
    *("PRIVATE KEY", "AKIA", "ASIA", "AIza", "sk-", "hf_", "github_pat_"),
    *(f"gh{kind}_" for kind in "pousr"),
    *(f"xox{kind}-" for kind in "abprs"),
)
KINDS = {
    "key": Kind(re.compile(KEYS), _always, KEY_SIGNS),
    "email": Kind(
        re.compile(r"\b[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,}\b"), _is_private, ("@",)
    ),
    "account": Kind(re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_account),
    "card": Kind(re.compile(r"(?<![\d.,-])[3-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\d.-]?\d)"), _is_card),
    "ip": Kind(re.compile(rf"(?<![\w.])(?:{OCTET}\.){{3}}{OCTET}(?!\.?\w)"), _is_global, (".",)),
    "phone": Kind(
        re.compile(
            r"(?<![\w+.-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,4}){1,4}"  # +44 20 7946 0018
            r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4})(?![\w-])"  # (212) 555-0147
        ),
        _always,
    ),
}


def find(text: str, kinds: Sequence[str]) -> Counter[str]:
    """How many of each kind a text holds."""
    return _mask(text, kinds)[1]


def _mask(text: str, kinds: Sequence[str]) -> tuple[str, Counter[str]]:
    counts: Counter[str] = Counter()
    for name in kinds:
        kind = KINDS[name]
        if not any(sign in text for sign in kind.signs):
            continue

        def replaced(match: re.Match[str], name: str = name, kind: Kind = kind) -> str:
            if not kind.check(match[0]):
                return match[0]
            counts[name] += 1
            return f"[{name}]"

        text = kind.pattern.sub(replaced, text)
    return text, counts


def _known(kinds: Sequence[str]) -> tuple[str, ...]:
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"no personal data is called {kind!r}{nearest(kind, KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds)


@final
class MaskPersonalData(Cleaner):
    """Puts ``[email]``, ``[phone]`` … in the place of personal data.

    Args:
        kinds: which: key (passwords of machines), email, account, card, ip (public ones), phone.
    """

    def __init__(self, kinds: Sequence[str] = tuple(KINDS)) -> None:
        self.kinds = _known(kinds)

    def clean(self, document: Document) -> Document:
        """The document with masks."""
        text, counts = _mask(document.text, self.kinds)
        return cleaned(document, text, {f"{kind} masked": n for kind, n in counts.items()})


@final
class PersonalData(Filter):
    """Rejects documents that hold personal data.

    Args:
        kinds: which: key (passwords of machines), email, account, card, ip (public ones), phone.
        most: how many a document may hold.
    """

    def __init__(self, kinds: Sequence[str] = tuple(KINDS), most: int = 0) -> None:
        self.kinds, self.most = _known(kinds), most

    def reject(self, document: Document) -> str | None:
        """The kind it holds most of, or None."""
        counts = find(document.text, self.kinds)
        return f"personal data: {counts.most_common(1)[0][0]}" if counts.total() > self.most else None
