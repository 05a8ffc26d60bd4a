"""``phi3kit validate`` and ``phi3kit test``: measures of a trained run on data it was not trained on."""

from __future__ import annotations

import json

from phi3kit import recipe as recipes
from phi3kit.verbs import fit


def main(arguments: list[str], part: str = "heldout") -> int:
    """Print the measures of the run at the recipe's `out`, as JSON.

    Args:
        arguments: as for `fit`: typically ``--recipe runs/NAME/config.yaml``.
        part: "heldout" for validate, "test" for the data's test part.
    """
    from phi3kit.model import weights
    from phi3kit.phases.training import evaluate

    recipe = recipes.read("fit", fit.declare, arguments, __doc__, "validate" if part == "heldout" else "test")
    parts = fit.build(recipe)
    parts.phase.setup("validate")  # DPO's reference is what training started from, not what it ended with
    weights.load_into(parts.phase.net, recipe.out)
    measures = evaluate(parts.trainer, parts.phase, parts.data, part, callbacks=True)
    if fit.first_process():
        print(json.dumps(measures, indent=2))
    return 0
