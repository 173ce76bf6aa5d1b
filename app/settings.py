"""What can be set: environment variables with the prefix ``HLINK_`` (``HLINK_PORT=9000``)."""

from __future__ import annotations

import socket
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

Seconds = Annotated[float, Field(gt=0)]

_ASYNC_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}


class Settings(BaseSettings):
    """The service's settings. Times are in seconds where the name ends in ``_s``."""

    model_config = SettingsConfigDict(env_prefix="HLINK_", extra="ignore", hide_input_in_errors=True)

    home: Path = Path(".hlink")
    """Where the embedded stack, the default database and uploaded files live; made absolute."""

    flink_url: str | None = None
    """REST address of the user's own Flink; None means the embedded one."""
    kafka_bootstrap: str | None = None
    """The user's own Kafka (``host:port,...``); None means the embedded one."""
    postgres_url: str | None = None
    """The user's own PostgreSQL for features; None means the embedded one."""

    database_url: SecretStr = SecretStr("")
    """The service's own database; empty means SQLite under ``home``. See :meth:`database`."""

    secret_key: SecretStr | None = None
    """Encrypts stored credentials; None means a key file under ``home``. See :mod:`app.encryption`."""

    machine: Annotated[str, Field(min_length=1, max_length=255)] = Field(default_factory=socket.gethostname)
    """Names this machine, over restarts of the service, among those that replicas run on: by default its host name."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8086
    api_token: SecretStr | None = None
    """An administrator's token, beside those of ``hlink token``; sent as ``Authorization: Bearer``."""
    allowed_hosts: str = ""
    """Names, separated by commas, by which a service without tokens may be called beside localhost; without ports."""
    audit_days: Annotated[int, Field(ge=0)] = 90
    """How long the audit log is kept; 0: for ever."""

    upload_limit_mib: Annotated[int, Field(ge=1)] = 256
    """The largest file that may be uploaded at once (a jar, a package of Python functions, a fragment), in MiB."""
    dataset_limit_gib: Annotated[int, Field(ge=1)] = 50
    """The largest file of a data set, which comes in fragments or is copied from a table, in GiB."""

    python_executable: Path | None = None
    """The interpreter with PyFlink that runs Python functions on the cluster's machines; None: the service's own,
    which is right for the embedded stack and the container image."""

    planner_workers: Annotated[int, Field(ge=1)] = 1
    planner_timeout_s: Seconds = 30.0
    """The longest a plan or a submission may take before its planner is replaced."""
    planner_warm_up: bool = True
    """Whether a planner that has started plans some jobs of its own, six seconds of a processor, so that the first user
    does not wait for Flink's classes to be loaded."""

    tick_s: Seconds = 1.0
    """How often the supervisor looks at its runs."""
    lease_s: Seconds = 8.0
    """How long a replica holds a run without renewing: a dead replica's runs move within ``lease_s + tick_s``."""
    lost_after_s: Annotated[float, Field(ge=0)] = 2.0
    """How long a reachable cluster must not know a run before the run is called LOST."""
    stop_s: Seconds = 120.0
    """How long a stop with savepoint waits for a job whose tasks do not all run, before it is given up."""
    savepoints_kept: Annotated[int, Field(ge=0)] = 20
    """How many savepoints of a job are kept, where the job has no limit of its own; 0: any number."""
    savepoint_days: Annotated[int, Field(ge=0)] = 90
    """How long a savepoint is kept, where the job has no limit of its own; 0: for ever."""
    retention_s: Seconds = 30.0
    """How often it is looked for savepoints that are not to be kept any more."""
    submissions: Annotated[int, Field(ge=1)] = 4
    """How many submissions this replica carries out at once."""
    queue_wait_s: Annotated[float, Field(ge=0)] = 3600.0
    """How long a job waits for slots before its start is given up, where the job itself does not say; 0: for ever."""
    recoveries: Annotated[int, Field(ge=0)] = 5
    """How often a job that was lost is started again by itself within ``recovery_window_s``; 0: never."""
    recovery_window_s: Seconds = 600.0
    recovery_pause_s: Annotated[float, Field(ge=0)] = 5.0
    """The pause before the second of these starts; each further one is twice as long."""
    flink_timeout_s: Seconds = 5.0
    """The longest one request to Flink's REST API may take."""

    figures_s: Annotated[float, Field(ge=0)] = 15.0
    """How often the figures of jobs (lag, checkpoints, back-pressure, ...) are collected from Flink; 0: never."""
    figures_requests_s: Annotated[float, Field(gt=0)] = 5.0
    """The most requests a second to one cluster by which this replica collects them; a round takes what it takes."""
    figures_jobs: Annotated[int, Field(ge=0)] = 1000
    """For how many jobs of this replica figures are collected; ``/metrics`` says how many were left out."""

    notify_again_s: Seconds = 3600.0
    """A trouble that lasts, or comes back before it was over, is told of again after this time."""
    notify_steady_s: Annotated[float, Field(ge=0)] = 30.0
    """How long a job must have run after a failure to be called recovered."""
    lag_records: Annotated[int, Field(ge=1)] = 100_000
    """A job that has more records of a source before it than this is lagging, when it has for ``lag_for_s``."""
    lag_for_s: Annotated[float, Field(ge=0)] = 300.0
    flapping_restarts: Annotated[int, Field(ge=1)] = 3
    """A job is flapping when Flink restarts it this often within ``flapping_window_s``."""
    flapping_window_s: Seconds = 600.0
    failed_checkpoints: Annotated[int, Field(ge=1, le=10)] = 3
    """So many failed checkpoints in a row are told of; Flink remembers ten."""

    pytorch_python: Path | None = None
    tensorflow_python: Path | None = None
    """Interpreters that have these frameworks; None: those that ``hlink frameworks install`` makes under ``home``."""

    visual_at_once: Annotated[int, Field(ge=1)] = 2
    """How many experiments run at a time on this machine; the others wait."""
    visual_processors: Annotated[int, Field(ge=0)] = 0
    """How many nodes of one graph run at a time; 0: as many as there are processors."""
    visual_memory_mib: Annotated[int, Field(ge=64)] = 4096
    """The most memory that one experiment may use, in MiB: it is ended when it uses more."""
    visual_time_s: Annotated[float, Field(ge=0)] = 0.0
    """The longest that one experiment may run; 0: any time."""
    visual_outputs_mib: Annotated[int, Field(ge=0)] = 20_480
    """How much of what nodes have brought out is kept for later runs, in MiB: what was used least lately goes first."""
    visual_own_components: bool = True
    """Whether components of people's own are taken in: Python that runs with the rights of the experiments' processes.
    Those that are there already can be used until they are deleted."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"

    @model_validator(mode="after")
    def _absolute_and_known(self) -> Settings:
        self.home = self.home.expanduser().absolute()
        for name in ("pytorch_python", "tensorflow_python"):
            if (named := getattr(self, name)) is not None:
                setattr(self, name, named.expanduser().absolute())
        if self.api_token is not None and not self.api_token.get_secret_value().strip():
            raise ValueError("HLINK_API_TOKEN is set but empty: give it a value or unset it")
        if self.lease_s < 2 * self.tick_s:
            raise ValueError(
                f"HLINK_LEASE_S ({self.lease_s:g}) must be at least twice HLINK_TICK_S ({self.tick_s:g}), "
                "or a replica loses its runs between two ticks"
            )
        self.database()
        return self

    def database(self) -> URL:
        """The database's address with an asynchronous driver.

        ``sqlite:///path`` and ``postgresql://...`` are accepted as people write them. Raises ``ValueError``, which
        never contains the address itself, because an address holds a password.
        """
        text = self.database_url.get_secret_value()
        if not text:
            return URL.create("sqlite+aiosqlite", database=str(self.home / "hlink.db"))
        try:
            url = make_url(text)
        except ArgumentError:
            raise ValueError(
                "HLINK_DATABASE_URL is not an address: write sqlite:///path/to/file or postgresql://user@host/name"
            ) from None
        driver = _ASYNC_DRIVERS.get(url.drivername, url.drivername)
        if driver not in _ASYNC_DRIVERS.values():
            raise ValueError(f"HLINK_DATABASE_URL names {url.drivername}: use sqlite:///... or postgresql://...")
        if driver == "sqlite+aiosqlite" and url.database in (None, "", ":memory:"):
            raise ValueError("HLINK_DATABASE_URL names an SQLite database in memory, which ends with the process")
        return url.set(drivername=driver)

    def other_hosts(self) -> frozenset[str]:
        """``allowed_hosts`` one by one."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read from the environment once."""
    return Settings()
