"""Credentials at rest."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from app.encryption import KEY_FILE, Encrypted, unlock
from app.errors import DatabaseFailure
from app.settings import Settings

SECRETS = {"connector_password": "pa55-word"}
COLUMN = Encrypted()
DIALECT: Any = None


def settings(home: Path, key: str | None = None) -> Settings:
    return Settings.model_validate({"home": home, "secret_key": key})


def stored(settings: Settings) -> str:
    unlock(settings)
    text = COLUMN.process_bind_param(SECRETS, DIALECT)
    assert text is not None
    return text


def test_what_is_stored_holds_no_password_and_is_read_again(tmp_path: Path) -> None:
    text = stored(settings(tmp_path))
    assert "pa55-word" not in text
    unlock(settings(tmp_path))  # as after a restart: the key is in its file
    assert COLUMN.process_result_value(text, DIALECT) == SECRETS
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_another_key_is_refused_with_the_remedy(tmp_path: Path) -> None:
    text = stored(settings(tmp_path, "the first key of all keys"))
    unlock(settings(tmp_path, "another key of all the keys"))
    with pytest.raises(DatabaseFailure, match="encrypted with another key: give it as HLINK_SECRET_KEY"):
        COLUMN.process_result_value(text, DIALECT)


def test_a_new_key_before_the_old_one_reads_both(tmp_path: Path) -> None:
    old = stored(settings(tmp_path, "the first key of all keys"))
    new = stored(settings(tmp_path, "a newer key of all the keys,the first key of all keys"))
    unlock(settings(tmp_path, "a newer key of all the keys,the first key of all keys"))
    assert COLUMN.process_result_value(old, DIALECT) == COLUMN.process_result_value(new, DIALECT) == SECRETS
    unlock(settings(tmp_path, "a newer key of all the keys"))
    assert COLUMN.process_result_value(new, DIALECT) == SECRETS


def test_a_short_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        unlock(settings(tmp_path, "short"))
