"""Text and ids: tokenizers, the chat template, files of conversations."""

from phi3kit.text.bpe import train_bpe
from phi3kit.text.chat_files import read_conversations, read_preferences
from phi3kit.text.cl100k import Cl100kTokenizer
from phi3kit.text.folder import load_tokenizer, save_tokenizer, tokenizer_going_on
from phi3kit.text.hugging_face import HuggingFaceTokenizer
from phi3kit.text.template import Rendered, render, render_turn, stop_ids

__all__ = [
    "Cl100kTokenizer",
    "HuggingFaceTokenizer",
    "Rendered",
    "load_tokenizer",
    "read_conversations",
    "read_preferences",
    "render",
    "render_turn",
    "save_tokenizer",
    "stop_ids",
    "tokenizer_going_on",
    "train_bpe",
]
