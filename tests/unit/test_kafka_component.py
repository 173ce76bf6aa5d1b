"""The embedded broker's own settings."""

from __future__ import annotations

import uuid

import pytest

from stream_jobs.local.components import kafka


def test_a_cluster_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    random = iter([uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=bytes(16))])
    monkeypatch.setattr(kafka.uuid, "uuid4", lambda: next(random))
    assert kafka._cluster_id() == "A" * 22
