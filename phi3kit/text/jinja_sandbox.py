"""Chat templates of strangers, run in Jinja2's sandbox with what transformers gives them, and nothing else.

As transformers' `apply_chat_template`: blocks trimmed, ``break`` and ``continue``, ``{% generation %}``, `tojson` that
escapes no HTML, `raise_exception`. There is no `strftime_now`: a conversation must read the same tomorrow; templates
ask whether it is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from phi3kit.errors import UserError


@lru_cache(maxsize=16)
def compiled(source: str) -> Callable[..., str]:
    """A template as a function of what it may name.

    Raises:
        UserError: it is not Jinja; when called: it refuses the conversation, or the sandbox refuses what it does.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """``{% generation %}`` marks what an assistant says; here it is written as it is."""

        tags = {"generation"}

        def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    try:
        template = environment.from_string(source)
    except Exception as error:  # of a stranger's making: a wrong template has many kinds
        raise UserError(f"the chat template is not Jinja: {_line(error)}") from error

    def write(**names: Any) -> str:
        try:
            return template.render(**names)
        except Exception as error:
            raise UserError(f"the chat template refuses the conversation: {_line(error)}") from error

    return write


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
