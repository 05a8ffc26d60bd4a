"""Personal data: what is masked, what only looks like it, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from phi3kit import UserError
from phi3kit.corpus import MaskPersonalData, PersonalData
from phi3kit.records import Document
from phi3kit.testing import contracts

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ada.b+c@mail.uni-x.ac.uk!", "write to [email]!"),
        ("call +44 20 7946 0018 or (212) 555-0147 or 212-555-0147.", "call [phone] or [phone] or [phone]."),
        ("from 8.8.8.8 and 2.3.4", "from [ip] and 2.3.4"),
        ("card 4111 1111 1111 1111, or 4111-1111-1111-1111", "card [card], or [card]"),
        ("account GB82 WEST 1234 5698 7654 32", "account [account]"),
        (f"key {KEY} and AKIAIOSFODNN7EXAMPLE", "key [key] and [key]"),
        ("token ghp_" + "a1B2" * 9, "token [key]"),
    ],
)
def test_masks(text: str, masked: str) -> None:
    made = MaskPersonalData().clean(Document("x", text))
    assert made.text == masked
    assert sum(made.metadata["cleaned"].values()) == masked.count("[")
    assert MaskPersonalData().clean(made) is made
    assert PersonalData().reject(Document("x", text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com, @handle, a @ b",
        "192.168.0.1, 127.0.0.1, 10.0.0.1, 300.1.2.3, version 1.2.3.4.5",
        "4111 1111 1111 1112 and 1234567890123456 and 0000 0000 0000 0000",
        "GB82 WEST 1234 5698 7654 33",
        "1980-1990, 3.14159 26535, 12 345 678, 2024-11-21 14:05, ISBN 978-3-16-148410-0, 1,234,567",
        "x = 12 + 345 - 6789 (see 10.1000/182)",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    document = Document("x", text)
    assert MaskPersonalData().clean(document) is document
    assert PersonalData().reject(document) is None


@pytest.mark.parametrize(
    "text",
    [
        "See section 3.4.2.1, Thm. 12.3.1.2 and Eq. (3.4.2.1); § 3.4.2.1, Lemma~3.4.2.1.",
        "Sections 3.4.2.1, 3.4.2.2 and 5.6.7.8 say more, and **Section 3.4.2.1–3.4.2.4** too.",
        "Section: 3.4.2.1; cf. 8.4.2.1, see 9.4.2.1. Control 8.2.3.4. Hotfix 4.8.2.1, patch 5.8.2.1, FW 2.1.10.3",
        "Ziffer 8.8.4.4, Kapitel 8.8.4.5; раздел 4.8.2.1, версия 4.8.2.2; versie 4.8.2.1",
        "新バージョン 4.8.2.1 版本\uff1a4.8.2.2",
        "We use version 4.8.2.1, v. 4.8.2.1, the 4.8.2.1 release; upgraded from 4.8.2.1 to 4.9.0.2.",
        'AssemblyVersion("1.2.3.4") "version": "4.8.2.1" <version>4.8.2.1</version> Version number: 4.8.2.1',
        "foo==1.2.3.4, libfoo-1.2.3.4, Opera/9.8.7.6, Oracle 11.2.0.4",
        "### 3.4.2.1 Results",
        "3.4.2.1 Results\nMany.\n3.4.2.2 Methods\nFew.",
        "3.4.2 Lamps\nThey turn, as 3.4.2.1 says.",
        "Trypsin (EC 3.4.21.4) and Kapitel 3.4.2.1",
    ],
)
def test_numbers_of_sections_and_versions_are_no_addresses(text: str) -> None:
    document = Document("x", text)
    assert MaskPersonalData().clean(document) is document


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('93.184.216.34 - - [10/Oct/2000] "GET /" 200', '[ip] - - [10/Oct/2000] "GET /" 200'),
        ("93.184.216.34 Connected\n93.184.216.99 Connected", "[ip] Connected\n[ip] Connected"),
        ("Note: 8.8.8.8, 8.8.4.4, for example 9.9.9.9", "Note: [ip], [ip], for example [ip]"),
        (
            "https://8.8.8.8/dns host=8.8.8.8 ip==8.8.8.8 93.184.216.34:443",
            "https://[ip]/dns host=[ip] ip==[ip] [ip]:443",
        ),
        (
            "the version at 8.8.8.8; net 93.184.216.* has 93.184.216.34",
            "the version at [ip]; net 93.184.216.* has [ip]",
        ),
        ("3782 822463 10005", "[card]"),
        ("ada@uni-x.org: hello", "[email]: hello"),
        ("sk-abcDEF0123456789abcdefgh", "[key]"),
    ],
)
def test_addresses_beside_such_numbers_are_masked(text: str, masked: str) -> None:
    assert MaskPersonalData().clean(Document("x", text)).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "git clone git@github.com:ada/lamp.git; scp x ada@uni-x.org:data/x; icon@2x.png; y = x@w.mean()",
        "ada@mail.example.com, ada@lamp.example, ada@lamp.test",
        "2^42 = 4398046511104, and 4398046511104 / 4111111111111111 = 0",
        "100-200-3000, +2.5-10 degrees, 987-654-3210 = -2877, ISBN 978-030-640-6157",
        "sk-container-id-1-toggleable-content",
    ],
)
def test_neighbours_of_personal_data_stay(text: str) -> None:
    document = Document("x", text)
    assert MaskPersonalData().clean(document) is document


def test_kinds_and_limits() -> None:
    text = "ada@uni-x.org, bob@uni-x.org, +44 20 7946 0018"
    assert MaskPersonalData(["phone"]).clean(Document("x", text)).text == "ada@uni-x.org, bob@uni-x.org, [phone]"
    assert PersonalData().reject(Document("x", text)) == "personal data: email"
    assert PersonalData(most=3).reject(Document("x", text)) is None
    with pytest.raises(UserError, match="no personal data is called 'mail'; did you mean 'email'"):
        MaskPersonalData(["mail"])


def test_counts_add_up_over_cleaners() -> None:
    first = MaskPersonalData(["email"]).clean(Document("x", "a@uni-x.org +44 20 7946 0018"))
    both = MaskPersonalData(["phone"]).clean(first)
    assert both.metadata["cleaned"] == {"email masked": 1, "phone masked": 1}


def test_mathematics_and_textbooks_keep_their_numbers(shared_data: Path) -> None:
    """Only telephone numbers look like arithmetic; so `curated` leaves those alone."""
    cleaner = MaskPersonalData(["key", "account", "card", "ip"])
    lines = (shared_data / "reasoning/gsm8k_train.jsonl").read_text().splitlines()
    pages = [path.read_text() for path in (shared_data / "edu/openstax_college_physics").glob("*.md")]
    changed = [text[:60] for text in [*lines, *pages] if cleaner.clean(Document("x", text)).text != text]
    assert (len(lines), len(pages)) == (7473, 38)
    assert not changed


def test_laws_on_personal_data() -> None:
    documents = [Document("p", f"a@uni-x.org {KEY} 8.8.8.8", metadata={"url": "x"})]
    contracts.check_cleaner(MaskPersonalData, documents)
    contracts.check_filter(PersonalData, documents)
