"""Settings: what is accepted, and what is refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "API_TOKEN", "DATABASE_URL", "HOME", "TICK_S", "LEASE_S"):
        monkeypatch.delenv(f"HLINK_{name}", raising=False)


def test_given_nothing_then_the_database_is_sqlite_under_the_home(tmp_path: Path) -> None:
    url = Settings(home=tmp_path).database()
    assert (url.drivername, url.database) == ("sqlite+aiosqlite", str(tmp_path / "hlink.db"))


def test_given_a_relative_home_then_it_is_made_absolute() -> None:
    assert Settings(home=Path("here")).home == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:////data/hlink.db", "sqlite+aiosqlite"),
        ("postgresql://user:secret@host/name", "postgresql+psycopg"),
        ("postgres://user:secret@host/name", "postgresql+psycopg"),
        ("postgresql+psycopg://user:secret@host/name", "postgresql+psycopg"),
    ],
)
def test_given_an_address_as_people_write_it_then_it_gets_the_asynchronous_driver(
    monkeypatch: pytest.MonkeyPatch, given: str, driver: str
) -> None:
    monkeypatch.setenv("HLINK_DATABASE_URL", given)
    assert Settings().database().drivername == driver


@pytest.mark.parametrize("given", ["mysql://user:secret@host/name", "sqlite://", "no address, secret"])
def test_given_an_address_that_cannot_serve_then_the_refusal_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("HLINK_DATABASE_URL", given)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "HLINK_DATABASE_URL" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_given_an_empty_token_then_it_is_refused_rather_than_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HLINK_API_TOKEN", " ")
    with pytest.raises(ValidationError, match="set but empty"):
        Settings()


def test_given_leases_shorter_than_two_ticks_then_they_are_refused() -> None:
    with pytest.raises(ValidationError, match="HLINK_LEASE_S"):
        Settings(tick_s=6, lease_s=10)


def test_settings_do_not_show_secrets() -> None:
    settings = Settings.model_validate({"api_token": "hidden-1", "database_url": "postgresql://u:hidden-2@h/n"})
    assert "hidden" not in repr(settings)
    assert "hidden" not in settings.model_dump_json()
