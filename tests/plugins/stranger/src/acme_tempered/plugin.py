"""The hook."""

from phi3kit import hookimpl


@hookimpl
def phi3kit_components() -> list[type]:
    """Both components."""
    from acme_tempered.parts import LonelyWords, TemperedAttention

    return [TemperedAttention, LonelyWords]
