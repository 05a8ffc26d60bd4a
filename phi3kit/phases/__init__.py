"""Training: one LightningModule per kind of loss, one data module per kind of data.

Importing this room imports lightning, and silences what it says about itself.
"""

from phi3kit import lazy_torchmetrics, torchvision_ops

torchvision_ops.declare()
lazy_torchmetrics.declare()

from phi3kit.phases.quiet import hush  # noqa: E402

hush()

from phi3kit.phases.activation_checkpointing import ActivationCheckpointing  # noqa: E402
from phi3kit.phases.batches import Batches  # noqa: E402
from phi3kit.phases.chat_batches import ConversationBatches, PreferenceBatches  # noqa: E402
from phi3kit.phases.dpo import DPO  # noqa: E402
from phi3kit.phases.freeze import Freeze  # noqa: E402
from phi3kit.phases.loss_by_length import LossByLength  # noqa: E402
from phi3kit.phases.next_token import NextToken  # noqa: E402
from phi3kit.phases.phase import Phase, Schedule  # noqa: E402
from phi3kit.phases.quantization_aware import QuantizationAware  # noqa: E402
from phi3kit.phases.replay import Replay  # noqa: E402
from phi3kit.phases.sample_log import SampleLog  # noqa: E402
from phi3kit.phases.token_stream import TokenStream  # noqa: E402

__all__ = [
    "DPO",
    "ActivationCheckpointing",
    "Batches",
    "ConversationBatches",
    "Freeze",
    "LossByLength",
    "NextToken",
    "Phase",
    "PreferenceBatches",
    "QuantizationAware",
    "Replay",
    "SampleLog",
    "Schedule",
    "TokenStream",
]
