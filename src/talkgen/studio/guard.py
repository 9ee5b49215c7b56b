"""What stands before every request: only this studio's pages may talk to it; each browser is a session."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from talkgen.studio.settings import is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "talkgen_studio"
_SESSION = re.compile(r"[0-9a-f]{32}")
_YEAR_SECONDS = 365 * 24 * 3600
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
}


class Guard:
    """ASGI middleware.

    A name that a foreign page has pointed to this machine is refused by its ``Host``, a request that a
    foreign page sends by its ``Origin``; the browser is told to load nothing from elsewhere.
    ``scope["session"]`` is the session.

    Args:
        app: what is guarded.
        host: address that is listened on; another than loopback may be called by any name.
    """

    def __init__(self, app: App, host: str) -> None:
        self.app = app
        self.local = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or refuse."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.local and not is_loopback(_name(host)):
            await _refuse(send, "this studio answers on this machine only")
            return
        origin = headers.get("origin")
        safe = scope["method"] in ("GET", "HEAD")
        if not safe and origin is not None and urlsplit(origin).netloc != host:
            await _refuse(send, "requests of other pages are not taken")
            return
        session = _session(headers.get("cookie", ""))
        fresh = session is None
        scope["session"] = session or secrets.token_hex(16)

        async def reply(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = dict(_HEADERS)
                if fresh:
                    rules = f"Path=/; Max-Age={_YEAR_SECONDS}; HttpOnly; SameSite=Strict"
                    added["set-cookie"] = f"{COOKIE}={scope['session']}; {rules}"
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        await self.app(scope, receive, reply)


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


def _session(cookie: str) -> str | None:
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None and _SESSION.fullmatch(morsel.value) else None


async def _refuse(send: Send, reason: str) -> None:
    body = json.dumps({"reason": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
