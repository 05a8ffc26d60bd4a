"""Public checkpoint folders (Hugging Face) to run folders and back, tensor by tensor."""

from phi3kit.checkpoints.convert import convert
from phi3kit.checkpoints.plan import Conversion, plan

__all__ = ["Conversion", "convert", "plan"]
