"""A scorer in a folder that says what it is: written by `phi3kit score fit`, read by whoever scores with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from phi3kit import plugins
from phi3kit.errors import UserError
from phi3kit.families import Scorer

ABOUT = "about.json"


def save_scorer(scorer: Scorer, folder: Path, about: dict[str, Any] | None = None) -> None:
    """Write a scorer into a folder (made if need be) that `load_scorer` reads.

    Args:
        scorer: fitted.
        folder: where to.
        about: more to say in about.json (the threshold, what it was trained on).
    """
    from phi3kit.corpus.scorers.saved import SavedScorer

    scorer = scorer.scorer if isinstance(scorer, SavedScorer) else scorer
    folder.mkdir(parents=True, exist_ok=True)
    scorer.save(folder)
    named = {"scorer": type(scorer).__name__, "aspect": scorer.aspect, "version": scorer.version}
    (folder / ABOUT).write_text(json.dumps({**named, **(about or {})}, indent=2) + "\n", encoding="utf-8")


def read_about(folder: Path) -> dict[str, Any]:
    """What about.json says. Raises `UserError` where the folder holds no scorer."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        missing = {"scorer", "aspect", "version"} - set(about)
    except OSError as error:
        hint = "`phi3kit score fit` writes such a folder"
        raise UserError(f"{folder} holds no scorer: {error.strerror} ({ABOUT}); {hint}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / ABOUT} is damaged: {error}") from error
    if missing:
        raise UserError(f"{folder / ABOUT} is damaged: it lacks {', '.join(sorted(missing))}")
    return about


def load_scorer(folder: Path) -> Scorer:
    """The scorer `save_scorer` wrote. Its class is looked up among the installed components only.

    Raises:
        UserError: nothing there, a component that is not installed, or files changed since.
    """
    about = read_about(folder)
    component = plugins.load().find(str(about["scorer"]))
    if component is None or component.family is not Scorer:
        raise UserError(f"{folder / ABOUT}: {plugins.unknown_component(str(about['scorer']), Scorer)}")
    scorer: Scorer = component.cls.load(folder)  # type: ignore[attr-defined]
    if scorer.version != about["version"]:
        raise UserError(
            f"the scorer in {folder} is version {scorer.version}, but {ABOUT} says {about['version']}: its files, or "
            f"the code of {about['scorer']}, changed since it was trained; train it again"
        )
    return scorer
