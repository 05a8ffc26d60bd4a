"""Mail addresses, telephone numbers, cards, keys: to be masked, or a reason to reject.

Patterns find candidates, checksums and registries decide where there are any: cards by Luhn's rule (ISO/IEC 7812-1) and
by the first digits of the networks, bank accounts by ISO 7064's mod 97, telephone numbers by how many digits they have
(E.164) and by the North American plan, addresses of the net by what is globally reachable. Where no registry does, what
stands around a candidate decides: sections and versions have numbers of four parts too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, final

from phi3kit.corpus.filters.cleaned import cleaned
from phi3kit.corpus.filters.numbering import is_numbering
from phi3kit.errors import UserError, nearest
from phi3kit.families import Cleaner, Filter
from phi3kit.records import Document


class Kind(NamedTuple):
    """What gives it away, what a match must be, and pieces of which every match has one (quicker than the pattern)."""

    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], bool]
    signs: tuple[str, ...] = ("",)


RESERVED = re.compile(r"@(?:.*\.)?(?:example\.(?:com|org|net)|example|test|invalid|localhost)\Z")  # RFC 2606, 2 and 3
LOGINS = ("git", "hg", "svn", "cvs", "anoncvs", "gitea", "gitolite", "aur", "forgejo")  # accounts that all share
PICTURE = re.compile(r"@\d(?:\.\d)?x\.\w+\Z")  # icon@2x.png
# What goes on after it: a call (x@w.mean()), or a path on a machine (ada@host.org:data/x, but not "ada@host.org:8").
GOES_ON = re.compile(r"\(|:[~./\w][\w.~-]*/")
# First digits and lengths of the networks' numbers (ISO/IEC 7812-1's issuer identifiers).
NETWORKS = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35[2-8]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}|(?:50[123]8|5020|6304|6759|676[1-3])\d{8,15}"
)
SUM_BEFORE = re.compile(r"[\d)!]\s*[=+*/×÷^]\s*\Z")
SUM_AFTER = re.compile(r"\s*[=+*/×÷^]\s*[\d(-]")


def _is_private(match: re.Match[str]) -> bool:
    address = match[0].lower()
    login = address.partition("@")[0] in LOGINS
    return not (
        login or RESERVED.search(address) or PICTURE.search(address) or GOES_ON.match(match.string, match.end())
    )


def _is_global(match: re.Match[str]) -> bool:
    from ipaddress import ip_address

    try:
        return ip_address(match[0]).is_global and not is_numbering(match)
    except ValueError:  # 01.2.3.4
        return False


def _is_summed(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 10) : match.start()]
    return bool(SUM_BEFORE.search(before) or SUM_AFTER.match(match.string, match.end()))


def _is_card(match: re.Match[str]) -> bool:
    number = re.sub(r"\D", "", match[0])
    digits = [int(d) for d in number]
    odd, even = digits[-1::-2], digits[-2::-2]
    luhn = (sum(odd) + sum(sum(divmod(2 * d, 10)) for d in even)) % 10 == 0
    return luhn and len(set(digits)) > 1 and bool(NETWORKS.fullmatch(number)) and not _is_summed(match)


def _is_account(match: re.Match[str]) -> bool:
    compact = match[0].replace(" ", "")
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def _is_phone(match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    before = match.string[max(0, match.start() - 20) : match.start()]
    return 8 <= len(digits) <= 15 and not re.search(r"ISBN\S*\s*[\d-]*\Z", before) and not _is_summed(match)


def _is_key(match: re.Match[str]) -> bool:
    """Names of styles begin with "sk-" too, but have no digits or no capitals."""
    return not match[0].startswith("sk-") or bool(re.search(r"\d", match[0]) and re.search(r"[A-Z]", match[0]))


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
    "key": Kind(re.compile(KEYS), _is_key, KEY_SIGNS),
    "email": Kind(
        re.compile(r"\b[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,}\b"), _is_private, ("@",)
    ),
    "account": Kind(re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _is_account),
    "card": Kind(
        re.compile(r"(?<![\d.,-])(?:[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3[47]\d\d[ -]\d{6}[ -]\d{5})(?![\d.-]?\d)"),
        _is_card,
    ),
    "ip": Kind(re.compile(rf"(?<![\w.])(?:{OCTET}\.){{3}}{OCTET}(?!\.?\w)"), _is_global, (".",)),
    "phone": Kind(
        re.compile(
            r"(?<![\w+.-])(?:\+\d{1,3}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,4}){1,4}"  # +44 20 7946 0018
            r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4})(?![\w-]|\.\d)"  # (212) 555-0147
        ),
        _is_phone,
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
            if not kind.check(match):
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
