"""Phi-3-vision and Phi-3.5-vision: a picture becomes rows of the residual stream, and training reads pictures."""

from __future__ import annotations

from phi3kit import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """The component classes of this distribution; imported here, so that importing this module stays cheap."""
    from phi3kit_vision.conversation_batches import ImageConversationBatches
    from phi3kit_vision.encoder import CLIPVision
    from phi3kit_vision.layout import Phi3VLayout
    from phi3kit_vision.preference_batches import ImagePreferenceBatches
    from phi3kit_vision.text_batches import ImageTextBatches

    return [CLIPVision, ImageTextBatches, ImageConversationBatches, ImagePreferenceBatches, Phi3VLayout]
