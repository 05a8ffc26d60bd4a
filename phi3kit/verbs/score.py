"""``phi3kit score fit|report``: train a scorer on labels and say what it is worth; or look at one that exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from phi3kit import recipe as recipes
from phi3kit.errors import UserError, nearest
from phi3kit.verbs.summary import show

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

USAGE = """usage: phi3kit score fit    --recipe FILE [--key.of.recipe VALUE ...]
       phi3kit score report --recipe FILE [--key.of.recipe VALUE ...]

fit     labels and documents -> a scorer's folder, with a cross-validated report of its quality
report  AUC, calibration, scores by source and samples of a scorer as it is

phi3kit score fit --help lists the keys of a recipe."""


def declare_fit(parser: ArgumentParser) -> None:
    """The one key of `score fit`: `training`."""
    from phi3kit.corpus.scorers.training import ScorerTraining

    parser.add_class_arguments(ScorerTraining, "training", fail_untyped=True)


def declare_report(parser: ArgumentParser) -> None:
    """The one key of `score report`: `inspection`."""
    from phi3kit.corpus.scorers.inspection import ScorerReport

    parser.add_class_arguments(ScorerReport, "inspection", fail_untyped=True)


def main(arguments: list[str], *, summary: bool = True) -> int:
    """Run the verb; `phi3kit run` prints the summary itself, of all steps."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    work, rest = arguments[0], arguments[1:]
    if work not in _WORK:
        raise UserError(f"phi3kit score {work}: say what to do, fit or report{nearest(work, _WORK)}")
    report = _WORK[work](rest)
    if summary:
        show(report)
    return 0


def _fit(arguments: list[str]) -> dict[str, Any]:
    from phi3kit.corpus.scorers.summary import PAGE

    recipe = recipes.read("score fit", declare_fit, arguments, __doc__ or "")
    out = recipe.out
    report = recipe.instantiate().training.run(out)
    recipe.save(out / "config.yaml")
    return report | {"closing": [f"scorer: {out} (use it as SavedScorer); report: {out / PAGE}"]}


def _report(arguments: list[str]) -> dict[str, Any]:
    from phi3kit.corpus.scorers.summary import PAGE

    recipe = recipes.read("score report", declare_report, arguments, __doc__ or "")
    out = recipe.out
    report = recipe.instantiate().inspection.run(out)
    return report | {"closing": [f"report: {out / PAGE}"]}


_WORK: dict[str, Callable[[list[str]], dict[str, Any]]] = {"fit": _fit, "report": _report}
