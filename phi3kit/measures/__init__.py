"""Every number a report prints about a model, computed in one place: pure functions on tensors."""

from phi3kit.measures.language import bits_per_byte, kl_divergence, perplexity, token_log_probs, top1_agreement
from phi3kit.measures.questions import choice, choice_log_likelihood, exact_match, guessing

__all__ = [
    "bits_per_byte",
    "choice",
    "choice_log_likelihood",
    "exact_match",
    "guessing",
    "kl_divergence",
    "perplexity",
    "token_log_probs",
    "top1_agreement",
]
