"""The public layout of Phi-3-vision and Phi-3.5-vision: `Phi3VForCausalLM`.

Special: the language model is Phi3's, tensor by tensor; the word embedding is stored a second time as
``vision_embed_tokens.wte``; and config.json names CLIP by its repository and says nothing of its sizes. Those of
another CLIP go into ``img_processor.vision_config``, with the names of transformers' `CLIPVisionConfig`: an addition
of ours, which public code does not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from torch import nn

from phi3kit import UserError
from phi3kit.families import Layout, Part
from phi3kit.model import Phi3Layout
from phi3kit.model import public_config as public

EMBEDDING, SECOND = "model.embed_tokens.weight", "model.vision_embed_tokens.wte.weight"
EMBEDDER = {
    "embedding_cls": "image",
    "hd_transform_order": "sub_glb",
    "projection_cls": "mlp",
    "use_hd_transform": True,
    "with_learnable_separator": True,
}
PROCESSOR = {
    "name": "clip_vision_model",
    "model_name": "openai/clip-vit-large-patch14-336",
    "type_feature": "patch",
}
# option of CLIPVision -> (field of CLIPVisionConfig, ViT-L/14-336's value)
SIZES = {
    "hidden": ("hidden_size", 1024),
    "layers": ("num_hidden_layers", 24),
    "heads": ("num_attention_heads", 16),
    "intermediate": ("intermediate_size", 4096),
    "image": ("image_size", 336),
    "patch": ("patch_size", 14),
}
FEATURE_LAYER = -2


@final
class Phi3VLayout(Layout):
    """`Phi3VForCausalLM`: Phi3 with `CLIPVision`, separators and projector."""

    @property
    def architectures(self) -> frozenset[str]:
        return frozenset({"Phi3VForCausalLM"})

    def net(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if config.get("tie_word_embeddings"):
            raise UserError("config.json: tie_word_embeddings is true; no Phi3VForCausalLM has a tied head")
        return {**Phi3Layout().net(config), "vision": {"class_path": "CLIPVision", "init_args": vision(config)}}

    def config(self, net: Mapping[str, Any]) -> dict[str, Any] | None:
        kind, options = public.component(net.get("vision"))
        text = Phi3Layout().config({**net, "vision": None})
        if kind != "CLIPVision" or text is None or text["tie_word_embeddings"] or text["sliding_window"] is not None:
            return None
        if text["rope_scaling"]:
            text["rope_scaling"] = {**text["rope_scaling"], "type": "su"}  # the only name Phi3VConfig accepts
        return {
            **text,
            "architectures": ["Phi3VForCausalLM"],
            "model_type": "phi3_v",
            "sliding_window": text["max_position_embeddings"],  # never binds
            "embd_layer": EMBEDDER,
            "img_processor": image_processor(options),
        }

    def parts(self, net: nn.Module) -> list[Part]:
        return Phi3Layout().parts(net)

    def copies(self, net: nn.Module) -> dict[str, str]:
        return {SECOND: EMBEDDING}

    def unused(self, name: str) -> bool:
        buffer = "model.vision_embed_tokens.img_processor.vision_model.embeddings.position_ids"  # transformers < 4.31
        return name == buffer or Phi3Layout().unused(name)


def vision(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `CLIPVision` for a config.json, only those that differ from ViT-L/14-336.

    Raises:
        UserError: it asks for another arrangement than crops, separator, whole image, through an MLP.
    """
    embedder, processor = section(config, "embd_layer"), section(config, "img_processor")
    for name, wanted in EMBEDDER.items():
        public.expect(embedder, name, wanted, "embd_layer of no public vision model says otherwise")
    public.expect(processor, "name", PROCESSOR["name"], "the images go through CLIP")
    public.expect(processor, "type_feature", PROCESSOR["type_feature"], "CLIP's class token is not used")
    sizes = processor.get("vision_config") or {}
    if not sizes:
        public.expect(processor, "model_name", PROCESSOR["model_name"], "the sizes of other CLIPs are not known")
    found = {option: public.integer(sizes, field, usual) for option, (field, usual) in SIZES.items()}
    public.expect(processor, "image_dim_out", found["hidden"], "it is CLIP's width")
    public.expect(processor, "num_img_tokens", rows_per_view(found), "each view gives 2 x 2 patches a row")
    different = {option: value for option, value in found.items() if value != SIZES[option][1]}
    layer = processor.get("layer_idx", FEATURE_LAYER)
    return different if layer == FEATURE_LAYER else {**different, "feature_layer": layer}


def image_processor(options: Mapping[str, Any]) -> dict[str, Any]:
    """The ``img_processor`` of a config.json for options of `CLIPVision`."""
    sizes = {option: options.get(option, usual) for option, (_, usual) in SIZES.items()}
    fields = {**PROCESSOR, "image_dim_out": sizes["hidden"], "num_img_tokens": rows_per_view(sizes)}
    if any(sizes[option] != usual for option, (_, usual) in SIZES.items()):
        fields["vision_config"] = {field: sizes[option] for option, (field, _) in SIZES.items()}
    layer = options.get("feature_layer", FEATURE_LAYER)
    return fields if layer == FEATURE_LAYER else {**fields, "layer_idx": layer}


def rows_per_view(sizes: Mapping[str, int]) -> int:
    """Merged patches of one view (ViT-L/14-336: 144)."""
    return (sizes["image"] // sizes["patch"] // 2) ** 2


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of config.json that must be there."""
    value = config.get(name)
    if not isinstance(value, Mapping):
        raise UserError(f"config.json: {name} is {value!r}; a vision model's config.json has a section of that name")
    return value
