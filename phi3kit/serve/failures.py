"""What goes wrong, as OpenAI's clients expect it: an object `error`, with a status that says whose mistake it is."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from phi3kit.errors import UserError

LOG = logging.getLogger("phi3kit.serve")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoSuchModelError(UserError):
    """A request for a model that is not served here."""


class EngineError(Exception):
    """A failure while the answer was made: the request was right."""


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer mistakes with JSON; those of ours leave a line in the log."""
    try:
        return await handler(request)
    except NoSuchModelError as error:
        return response(404, str(error), param="model", code="model_not_found")
    except UserError as error:
        return response(400, str(error))
    except (web.RequestPayloadError, HttpProcessingError) as error:
        return response(400, f"the request's body cannot be read: {error}")
    except web.HTTPNotFound:
        return response(404, f"there is nothing at {request.method} {request.path}; try /v1/chat/completions")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return response(405, f"{request.method} is not for {request.path}; use {allowed}", headers={"Allow": allowed})
    except web.HTTPRequestEntityTooLarge:
        return response(413, "the request is larger than 16 MiB")
    except web.HTTPException as error:
        return response(error.status, error.reason)
    except ConnectionError:
        raise  # the client has gone; nobody reads an answer
    except Exception as error:
        return web.json_response(failed(request, error), status=500)


def response(
    status: int, message: str, *, param: str | None = None, code: str | None = None, headers: Any = None
) -> web.Response:
    """A client's mistake."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)


def failed(request: web.Request, error: Exception) -> dict[str, Any]:
    """A failure of ours, as JSON; where it happened is told in one line of the log."""
    cause = error.__cause__ if isinstance(error, EngineError) and error.__cause__ else error
    if isinstance(cause, UserError):
        said, where = str(cause), ""
    else:
        said, where = f"{type(cause).__name__}: {cause}", f" ({_place(cause)})"
    LOG.error("%s %s failed: %s%s", request.method, request.path, " ".join(said.split()), where)
    return {"error": {"message": f"the server failed: {said}", "type": "server_error", "param": None, "code": None}}


def log_in_lines() -> None:
    """Let aiohttp say in one line what it could not read at all (a request that is no HTTP)."""
    logging.getLogger("aiohttp.server").addFilter(_in_a_line)


def _in_a_line(record: logging.LogRecord) -> bool:
    if record.exc_info and (error := record.exc_info[1]):
        record.msg, record.args = f"{record.getMessage()}: {' '.join(str(error).split())}", ()
        record.exc_info = None
    return True


def _place(error: BaseException) -> str:
    """File and line of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
