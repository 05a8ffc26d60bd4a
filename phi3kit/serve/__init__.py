"""Talk with a run or a bundle."""

from phi3kit.serve.bundle_engine import BundleEngine
from phi3kit.serve.chat import Chat
from phi3kit.serve.load import load

__all__ = ["BundleEngine", "Chat", "load"]
