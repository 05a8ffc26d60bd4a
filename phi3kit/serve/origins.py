"""Which web pages may use the server: those of this machine, and those that its owner names.

A browser lets any page of the internet send requests to this machine. It says in `Origin` where the page is from, which
programs other than browsers do not. A request of a foreign page is refused, and so are its questions whether it may ask
(https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from aiohttp import web

from phi3kit.errors import UserError

ALL = "*"
OWN = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


@final
class Origins:
    """Decides by a page's origin, and tells its browser.

    Args:
        named: origins beside this machine's own, such as ``https://chat.example.org``; ``*`` is all of them.

    Raises:
        UserError: one of them is none.
    """

    def __init__(self, named: Sequence[str] = ()) -> None:
        self._named = [name.rstrip("/").lower() for name in named]
        for name in self._named:
            if name not in (ALL, "null") and not ORIGIN.fullmatch(name):
                raise UserError(
                    f"{name!r} is no origin; give scheme and host, as https://chat.example.org, or * for all"
                )

    def admit(self, request: web.Request) -> str | None:
        """None, or why the page behind a request may not use the server."""
        origin = request.headers.get("Origin")
        if origin is None or self._admits(origin):
            return None
        return f"pages of {origin:.100} may not use this server; start it with --cors {origin:.100} to let them"

    async def tell(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add what a browser must know before a page may read the response (aiohttp's `on_response_prepare`)."""
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is None or not self._admits(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS":
            asked = request.headers.get("Access-Control-Request-Headers", "Content-Type, Authorization")
            response.headers["Access-Control-Allow-Headers"] = asked
            response.headers["Access-Control-Allow-Methods"] = "GET, HEAD, POST"
            response.headers["Access-Control-Allow-Private-Network"] = "true"
            response.headers["Access-Control-Max-Age"] = "600"

    def _admits(self, origin: str) -> bool:
        name = origin.lower()
        return bool(OWN.fullmatch(name)) or name in self._named or ALL in self._named
