"""Addresses of targets, as Apprise takes them: which may be used, how they are shown, how something is sent there.

Apprise knows some 130 services. Those that act on this machine (its desktop, its files, its programs) are no targets,
so the ones that are stand in a list; options of theirs that name a file here, or would let sending last longer than
it may, are refused.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from app.errors import InvalidInput, Problem
from app.hlink.notifications.models import LONGEST_URL, Kind

SCHEMES = (
    "json", "jsons", "form", "forms", "xml", "xmls",  # webhooks of one's own
    "mailto", "mailtos",
    "dingtalk", "feishu", "lark", "wecombot", "serverchan", "pushplus",
    "slack", "discord", "tgram", "workflow", "workflows", "gchat", "zulip",
    "mmost", "mmosts", "rocket", "rockets",
    "ntfy", "ntfys", "gotify", "gotifys", "bark", "barks",
    "pagerduty", "opsgenie", "signl4",
)  # fmt: skip
"""What an address may begin with."""
_REFUSED_OPTIONS = frozenset(
    {"template", "pgp", "pgppub", "pgpprv", "wkd", "smime", "keyfile", "attach", "retry", "wait", "cto", "rto"}
)
_TIMEOUT_S = 10.0
_REMEDY = (
    "write json://host:port/path, mailto://user:password@host?to=..., dingtalk://token, feishu://token, slack://..."
)

_log = logging.getLogger("apprise")


def checked(url: str) -> str:
    """The address as it is shown, when it may be a target's. Raises :class:`~app.errors.InvalidInput`.

    What is raised repeats nothing of the address but what it begins with.
    """
    text = url.strip()
    if not text:
        raise _refusal("the address is missing")
    if len(text) > LONGEST_URL or not text.isprintable():
        raise _refusal(f"it is longer than {LONGEST_URL} characters, or has characters that no address has")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    refused = sorted({name.lower() for name, _ in parse_qsl(text.partition("?")[2])} & _REFUSED_OPTIONS)
    if refused:
        raise _refusal(f"the option {refused[0]} is not possible here", "leave it out")
    plugin = _plugin(text)
    if plugin is None:
        what = f"{scheme}:// is not an address that can be used" if scheme not in SCHEMES else "parts are missing"
        raise _refusal(what if scheme else "it is not an address")
    if not _is_allowed(plugin):
        raise _refusal(f"{scheme}:// is not offered", f"use one of {', '.join(SCHEMES)}")
    return _shown(plugin, scheme)


def reachable(url: str) -> None:
    """Refuse addresses that lead to where machines keep their own credentials. Looks the name up.

    As with a table's address, one on the inside is what most want, so it is not refused. Raises
    :class:`~app.errors.InvalidInput`.
    """
    plugin = _plugin(url.strip())
    if plugin is None or not _has_host(plugin):
        return
    host = getattr(plugin, "smtp_host", None) or plugin.host
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return  # sending will say so
    for address in found:
        known = ipaddress.ip_address(str(address).partition("%")[0])
        if known.is_link_local or known.is_multicast or known.is_unspecified:
            raise _refusal(f"{host} is {address}, where no target can be", "give the address of the service itself")


def send(url: str, title: str, body: str, kind: Kind | None) -> str | None:
    """Send it; why it could not be, or None. Blocks, for some seconds at most. ``kind`` None: a test."""
    from apprise import NotifyType

    plugin = _plugin(url)
    if plugin is None:
        return "its address cannot be used any more: give it anew"
    try:
        reachable(url)
    except InvalidInput as refusal:
        return refusal.message
    plugin.socket_connect_timeout = plugin.socket_read_timeout = _TIMEOUT_S
    types = {None: NotifyType.INFO, Kind.RECOVERED: NotifyType.SUCCESS, Kind.FLAPPING: NotifyType.WARNING}
    types |= {Kind.LAGGING: NotifyType.WARNING, Kind.CHECKPOINTS_FAILING: NotifyType.WARNING}
    with _told() as words:
        sent = plugin.notify(body=body, title=title, notify_type=types.get(kind, NotifyType.FAILURE))
    if sent:
        return None
    return _without(url, "; ".join(words))[:500] or "it was not accepted, and no reason was given"


def _plugin(url: str) -> Any:
    # Loads all of its services: only when somebody has a target.
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(
        app_id="hlink",
        app_desc="hlink",
        app_url="",
        storage_mode="memory",
        pgp_autogen=False,
        pem_autogen=False,
        # What answers there must not send us elsewhere.
        http_redirects=False,
    )
    return Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def _is_allowed(plugin: Any) -> bool:
    names: set[str] = set()
    for protocol in (plugin.protocol, plugin.secure_protocol):
        names |= {protocol} if isinstance(protocol, str) else set(protocol or ())
    return bool(names & set(SCHEMES))


def _has_host(plugin: Any) -> bool:
    return any("{host}" in template for template in plugin.templates)


def _shown(plugin: Any, scheme: str) -> str:
    """Scheme and host; of a service whose address is nothing but tokens the scheme only."""
    if not _has_host(plugin):
        return f"{scheme}://***"
    port = f":{plugin.port}" if plugin.port else ""
    return f"{scheme}://{plugin.host}{port}/***"


@contextmanager
def _told() -> Iterator[list[str]]:
    """What Apprise logs meanwhile in this thread: that is the only place where it says why."""
    words: list[str] = []
    thread = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                words.append(" ".join(record.getMessage().split()))

    ear = Ear(logging.WARNING)
    _log.addHandler(ear)
    try:
        yield words
    finally:
        _log.removeHandler(ear)


def _without(url: str, text: str) -> str:
    """The text without anything out of the address that could be a secret."""
    parts = urlsplit(url)
    pieces = {url, parts.password or "", parts.username or "", parts.query}
    pieces |= {piece for piece in parts.path.split("/") if len(piece) > 7}
    pieces |= {value for _, value in parse_qsl(parts.query)}
    if len(parts.netloc) > 24 and "." not in parts.netloc:
        pieces.add(parts.netloc)
    for piece in sorted((piece for piece in pieces if len(piece) > 3), key=len, reverse=True):
        text = text.replace(piece, "***")
    return text


def _refusal(message: str, remedy: str = _REMEDY) -> InvalidInput:
    return InvalidInput(Problem(message, field="url", remedy=remedy))
