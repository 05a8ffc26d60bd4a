"""What tells numbers of sections, versions and enzymes (3.4.2.1) from addresses of the net, which look the same."""

from __future__ import annotations

import re
from functools import lru_cache

# What stands before a number of a place in a text, in some languages.
PLACES = (
    r"§+|¶+|(?:sub)*sections?|sects?|secs?|chapters?|chaps?|ch|paragraphs?|paras?|clauses?|articles?|parts?|appendix|"
    r"appendices|theorems?|thm|lemmas?|lemmata|corollar(?:y|ies)|cor|propositions?|prop|definitions?|defn?|axioms?|"
    r"(?<!for )examples?|exercises?|problems?|questions?|equations?|eqn?s?|formulae?|formulas|figures?|figs?|tables?|"
    r"listings?|algorithms?|remarks?|rules?|steps?|items?|requirements?|levels?|units?|lessons?|modules?|topics?|"
    r"controls?|criteri(?:on|a)|cf|see|"
    r"abschnitte?|kapitel|ziffer|satz|anhang|tabelle|abbildung|chapitre|théorème|sección|seção|capítulo|teorema|sezione|"
    r"capitolo|hoofdstuk|paragraaf|rozdział|раздела?|глав[аеы]|пункта?|"
    r"ec|e\.c|oid|cath"  # enzymes, object identifiers, protein structures
)
SOFTWARE = (
    r"kernel|linux|windows|android|ios|macos|ubuntu|debian|python|java|jdk|jre|oracle|chrome|chromium|firefox|opera|"
    r"safari|excel|matlab|labview|gcc|clang|cuda|openssl|numpy|pytorch|tensorflow|php|ruby|perl|rails|django|mysql|"
    r"node\.js|npm|pip|minecraft|sdk"
)
# What stands before a version, with a colon or an equals sign too.
RELEASES = (
    r"\w*versions?|\w*versión|versione|versão|versie|wersj[aię]|верси[яиюей]|vers|ver|v|releases?|rel|builds?|"
    r"revisions?|rev|firmware|fw|drivers?|editions?|patch(?:es)?|hotfix(?:es)?|sections?|chapters?|clauses?|"
    r"(?:up|down)grad\w+ (?:from|to)|(?:new|added|fixed|removed|deprecated) in"
)
NUMBERED = re.compile(
    rf"(?<![^\W\d_])(?:(?:{PLACES}|{SOFTWARE})\.?[\s~*_(\[#]*|(?:{RELEASES})\.?[\s~*_(\[#:=\"'`>]*)"
    r"(?:(?:number|no|nr|num|is|was|of)\b[.:=]?[\s#:=\"'`]*){0,2}[v(\"'`*_]?\Z"
    r"|(?:バージョン|버전|版本号?|版本號|第)[\s:\uff1a]*\Z",
    re.IGNORECASE,
)
PACKAGE = re.compile(r"(?:(?<!ip)(?<!ec2)(?<!host)(?<=[A-Za-z])-|[\w\]]\s*(?:[=!~<>]=|~>)\s*)\Z", re.IGNORECASE)
PRODUCT = re.compile(r"(?<![:/\w.@-])[A-Za-z][\w.+-]*/\Z")  # Name/1.2.3.4, as programs sign with
HOSTS = re.compile(r"(?:ip|addr|address|host|server|src|dst|peer)\w*\s*[=!~<>]=\s*\Z", re.IGNORECASE)
CHAIN = re.compile(
    r"(?<![\w.])\d+(?:\.\d+){1,4}[\"'`*_)]*(?:\s*(?:[,;/&–—-]|\b(?:and|or|to|through|until|till|und|bis|et|y)\b)\s*){1,2}"
    r"[(v\"'`*_]?\Z"
)
HEADING = re.compile(r"(?:^|\n)[ \t]*#{1,6}[ \t]+[*_]*\Z")
THREE_PARTS = re.compile(r"(?<![\w.])(\d{1,3}\.\d{1,3})\.\d{1,3}(?!\.?[\w*])")
TITLED = re.compile(r"^[ \t*•-]*(\d{1,3}(?:\.\d{1,3}){3})\.?[ \t]+[A-Z][a-z]", re.MULTILINE)
AFTER = re.compile(r"[)\"'`*_]*\s+(?:version|release|build|update|patch|edition)\b", re.IGNORECASE)
REACH = 40  # characters before a number that are looked at
HOPS = 10  # numbers of a list that are gone back over


def is_numbering(match: re.Match[str]) -> bool:
    """Whether a number of four parts counts sections or versions, by what stands around it and in its document."""
    text, number = match.string, match[0]
    if AFTER.match(text, match.end()) or _named(text, match.start()):
        return True
    if HEADING.search(text[max(0, match.start() - REACH) : match.start()]):
        return True
    parents, titled = _numbers(text)
    if ".".join(number.split(".")[:2]) in parents:  # 3.4.2 or 3.4.3 beside 3.4.2.1
        return True
    parent, _, last = number.rpartition(".")
    return number in titled and not titled.isdisjoint({f"{parent}.{int(last) - 1}", f"{parent}.{int(last) + 1}"})


@lru_cache(maxsize=1)
def _numbers(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The first two parts of every number of three, and the numbers of four that a line with a title begins with."""
    return frozenset(THREE_PARTS.findall(text)), frozenset(TITLED.findall(text))


def _named(text: str, start: int) -> bool:
    """Whether a number, or the first of a list of numbers, follows a word that numbers go with."""
    for _ in range(HOPS):
        before = text[max(0, start - REACH) : start]
        in_list = before.rstrip(" \n,;&/")[-1:].isdigit()  # of numbers: nothing is named there
        if not in_list and _follows_name(before):
            return True
        earlier = CHAIN.search(before)
        if earlier is None:
            return False
        start -= len(before) - earlier.start()
    return False


def _follows_name(before: str) -> bool:
    if NUMBERED.search(before) or PRODUCT.search(before):
        return True
    return bool(PACKAGE.search(before)) and not HOSTS.search(before)
