"""Names of files that documents' ids begin with: those that several files have get their source's in front, or folders.

A name that one file alone has stays as it is, so ids do not depend on what else is read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class _File(NamedTuple):
    source: str
    name: str
    path: Path


def told_apart(sources: Sequence[tuple[str, Sequence[tuple[str, Path]]]]) -> list[list[tuple[str, Path]]]:
    """The (name, file) of each source, with other names where several files have one.

    Args:
        sources: (name, its files with their names) of each; a source without a name is called "".
    """
    files = [_File(source, *file) for source, some in sources for file in some]
    names = [file.name for file in files]
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[name].append(i)
    taken = Counter(names)
    for same in (group for group in groups.values() if len(group) > 1):
        ways = _ways([files[i] for i in same])
        found = next((way for way in ways if len({*way}) == len(way) and not taken.keys() & {*way}), [])
        for i, name in zip(same, found, strict=False):
            names[i] = name
        taken.update(found)
    each = iter(zip(names, (file.path for file in files), strict=True))
    return [[next(each) for _ in some] for _, some in sources]


def _ways(files: Sequence[_File]) -> Iterator[list[str]]:
    """Longer names of some files: with their sources, or with one folder more each time."""
    if all(file.source for file in files):
        yield [f"{file.source}/{file.name}" for file in files]
    above = [_folders(file) for file in files]
    for n in range(1, max(map(len, above)) + 1):
        yield ["/".join([*folders[-n:], file.name]) for folders, file in zip(above, files, strict=True)]


def _folders(file: _File) -> list[str]:
    """The folders above what a file's name already says."""
    path = file.path.absolute()
    known = Path(file.name).parts
    folders = path.parts[1 : -len(known)] if path.parts[-len(known) :] == known else path.parts[1:-1]
    return list(folders)
