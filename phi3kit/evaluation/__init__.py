"""What trained nets are worth, and studies that compare them: arms x seeds -> tables and plots."""

from phi3kit.evaluation.arms import Arm, Cell
from phi3kit.evaluation.held_out import HeldOutText
from phi3kit.evaluation.multiple_choice import MultipleChoice
from phi3kit.evaluation.study import Study

__all__ = ["Arm", "Cell", "HeldOutText", "MultipleChoice", "Study"]
