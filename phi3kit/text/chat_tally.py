"""What became of a file's rows: how many there were, which could not be used and why, which fields nobody looked at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, final

from phi3kit.errors import UserError

Unreadable = Literal["skip", "stop"]
SHOWN, SAID = 8, 3  # of the rows that cannot be used: places kept, and reasons that are said


@final
class Tally:
    """Counts rows.

    Args:
        path: the file, or the folder of files.
        unreadable: "skip" leaves out what cannot be used and counts it, "stop" ends there.
    """

    def __init__(self, path: Path, unreadable: Unreadable) -> None:
        if unreadable not in ("skip", "stop"):
            raise UserError(f"unreadable is {unreadable!r}; give 'skip' or 'stop'")
        self.path, self.unreadable = path, unreadable
        self.rows = self.bad = 0
        self.first: list[tuple[str, str]] = []  # (place, why) of those that cannot be used
        self.unused: Counter[str] = Counter()  # rows by fields that are not used

    def refuse(self, place: str, why: str) -> None:
        """Count a row that cannot be used. Raises `UserError` where that is to stop."""
        if self.unreadable == "stop":
            raise UserError(f"{place}{'' if why.startswith(('is ', 'and ')) else ':'} {why}")
        self.bad += 1
        if len(self.first) < SHOWN:
            self.first.append((place, why))

    def check(self) -> None:
        """Raise `UserError` where most rows cannot be used: then it is the file that is wrong, not a row."""
        if self.bad * 2 > self.rows:
            place, why = self.first[0]
            raise UserError(f"{self.path}: {self.bad} of {self.rows} rows cannot be used; the first: {place}: {why}")

    def told(self) -> str:
        """Which rows cannot be used, in a line; "" where all can."""
        if not self.bad:
            return ""
        reasons = [f"{place}: {why if len(why) < 240 else why[:240] + '…'}" for place, why in self.first[:SAID]]
        others = [place for place, _ in self.first[SAID:]] + ["…"] * (self.bad > len(self.first))
        also = f"; also {', '.join(others)}" if others else ""
        return (
            f"{self.path}: {self.bad} of {self.rows} rows cannot be used and are left out: {'; '.join(reasons)}{also}"
        )

    def named(self) -> str:
        """Which fields are not used, in a line; "" where all are."""
        fields = ", ".join(f"{name} ({count} rows)" for name, count in self.unused.most_common())
        return f"{self.path}: fields that are not used: {fields}" if fields else ""

    def counts(self) -> dict[str, Any]:
        """The numbers for a report, with the places of the first rows that cannot be used."""
        first = {"first": [f"{place}: {why}" for place, why in self.first]} if self.bad else {}
        return {"rows": self.rows, "unreadable": self.bad, **first, "unused_fields": dict(self.unused.most_common())}

    def lines(self) -> list[str]:
        """What people should know."""
        return [line for line in (self.told(), self.named()) if line]
