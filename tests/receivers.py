"""Those who are notified, as real servers: a webhook, and a mail server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

from stream_jobs.local import ports

Message = dict[str, Any]


@dataclass
class Webhook:
    """What arrived. ``status`` is what it answers with; ``paths`` where it was called."""

    port: int = 0
    status: int = 200
    received: list[Message] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def url(self, path: str = "hook") -> str:
        """As Apprise takes it."""
        return f"json://127.0.0.1:{self.port}/{path}"

    def wait_for(self, holds: Callable[[Message], bool], timeout_s: float = 90) -> Message:
        """The first message for which it holds."""
        return waited(
            lambda: next((one for one in self.received if holds(one)), None), lambda: self.received, timeout_s
        )


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A server on a free port of this machine."""
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.paths.append(self.path)
            if hook.status == 200:
                hook.received.append(json.loads(body))
            self.send_response(hook.status)
            if hook.status in (301, 302, 307):
                self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Mailbox:
    """The mails that arrived."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Called by the server for each mail."""
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 Message accepted for delivery"

    def wait_for_one(self, timeout_s: float = 60) -> EmailMessage:
        """The first mail."""
        return waited(lambda: next(iter(self.mails), None), lambda: self.mails, timeout_s)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """A mail server on a free port of this machine."""
    box = Mailbox(ports.choose(set()))
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def waited(found: Callable[[], Any], known: Callable[[], object], timeout_s: float) -> Any:
    """What ``found`` finds in time."""
    deadline = time.monotonic() + timeout_s
    while (one := found()) is None:
        assert time.monotonic() < deadline, known()
        time.sleep(0.1)
    return one
