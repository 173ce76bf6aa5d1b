"""PostgreSQL, with password authentication on a TCP port of the loopback address.

PostgreSQL refuses to run as root. As root it therefore runs as an unprivileged user, and because such a user often can
reach neither this project's folder nor the packages in it (both may lie below a folder of mode 0700), its programs are
copied to, and its data live in, a folder below ``/var/lib/hlink`` that is remembered in the state and removed with it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from stream_jobs.local import ports, processes
from stream_jobs.local.components.base import Component, Site, Symptom
from stream_jobs.local.endpoints import PostgresEndpoint
from stream_jobs.local.errors import ComponentError
from stream_jobs.local.ports import LOOPBACK
from stream_jobs.local.progress import Progress, Step

USER = "hlink"
DATABASE = "hlink"

_CONNECT_TIMEOUT = 3
_INITDB_TIMEOUT = 120
_ROOT_FOLDERS = (Path("/var/lib/hlink"), Path(tempfile.gettempdir()) / "hlink-postgres")
_UNPRIVILEGED_USERS = ("nobody", "postgres", "daemon")


class Postgres(Component):
    """The database server."""

    name = "postgres"
    port_names = ("postgres",)
    # A "fast" shutdown; SIGTERM would wait for clients to go.
    stop_signal = signal.SIGINT
    start_timeout = 60.0
    # It explains a failure in lines before the one that it calls fatal.
    telling = re.compile(
        r"^(?!.*(FATAL:  the database system is starting up|LOG:  listening on|LOG:  starting Postgre))"
    )
    symptoms = (
        Symptom(re.compile("Permission denied|has wrong ownership|invalid permissions"), "restore owner and mode 0700"),
        Symptom(re.compile("Address already in use"), "another program took its port; run: hlink up again"),
        Symptom(re.compile("No space left|could not resize shared memory"), "free disk space (and /dev/shm)"),
        Symptom(
            re.compile("not a database cluster|PANIC|invalid checkpoint|incompatible|global/pg_control|corrupt"),
            "its data folder is damaged or of another version; "
            "if the embedded data may go: hlink down --purge && hlink up",
        ),
        Symptom(re.compile("syntax error in file|configuration file"), "correct or remove that file's line"),
    )

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.site.port('postgres')}"

    @property
    def endpoint(self) -> PostgresEndpoint:
        return PostgresEndpoint(
            host=LOOPBACK,
            port=self.site.port("postgres"),
            user=USER,
            password=self.site.state.postgres_password,
            database=DATABASE,
        )

    @property
    def output(self) -> Path:
        return self.log

    @property
    def base(self) -> Path:
        """The folder of data and, as root, programs."""
        return Path(self.site.state.postgres_folder or choose_folder(self.site))

    @property
    def data(self) -> Path:
        return self.base / "data"

    @property
    def programs(self) -> Path:
        """PostgreSQL's installation folder."""
        original = self.site.installation.postgres
        return original if self.user() is None else self.base / "programs" / original.parent.name / original.name

    def working_folder(self) -> Path:
        return self.base

    def user(self) -> tuple[int, int] | None:
        return unprivileged_user() if os.geteuid() == 0 else None

    def prepare(self, progress: Progress) -> None:
        self._make_reachable()
        if not (self.data / "PG_VERSION").exists():
            progress(Step(self.name, "creating its data folder"))
            self._initialise()
        # Backends outlive a killed server for a moment, and a new one refuses to start beside them. They hide their
        # environment behind their process title, so they are known by their current folder.
        processes.end(self.name, processes.working_in(self.data), signal=signal.SIGQUIT, grace=5.0)
        # What a killed server left; the server would believe it if the pid in it were in use again.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _make_reachable(self) -> None:
        user = self.user()
        if user is None:
            self.base.chmod(0o700)
            return
        owner_of(self.base).write_text(f"{self.site.home}\n")
        self.base.chmod(0o755)
        if self.programs.exists():
            return
        fresh = Path(tempfile.mkdtemp(prefix="programs-", dir=self.base))
        original = self.site.installation.postgres
        ignored = shutil.ignore_patterns("include", "*.a", "*.pyc")
        shutil.copytree(original, fresh / original.parent.name / original.name, symlinks=True, ignore=ignored)
        libraries = self.site.installation.postgres_libraries
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        fresh.chmod(0o755)
        fresh.replace(self.base / "programs")

    def _initialise(self) -> None:
        """Run initdb beside the final place and move its result there, so that a killed one leaves nothing half."""
        for leftover in self.base.glob("initialising-*"):
            processes.end(self.name, processes.mentioning(leftover), signal=signal.SIGKILL, grace=0.0)
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="initialising-", dir=self.base))
        password = fresh / "password"
        password.touch(mode=0o600)
        password.write_text(self.site.state.postgres_password)
        (fresh / "data").mkdir(mode=0o700)
        user = self.user()
        if user is not None:
            for path in (fresh, password, fresh / "data"):
                os.chown(path, *user)
        done = subprocess.run(
            [
                self.programs / "bin" / "initdb",
                *("-D", fresh / "data"),
                *("-U", USER, "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ],
            env=dict(self.environment()),
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            timeout=_INITDB_TIMEOUT,
            check=False,
            user=None if user is None else user[0],
            group=None if user is None else user[1],
            extra_groups=None if user is None else [],
        )
        if done.returncode:
            self.output.write_text(done.stdout)
            raise self._failure(f"its data folder cannot be created (initdb status {done.returncode})")
        (fresh / "data").replace(self.data)
        shutil.rmtree(fresh, ignore_errors=True)

    def command(self) -> list[str | Path]:
        settings = (
            self.mark,
            f"listen_addresses={LOOPBACK}",
            f"port={self.site.port('postgres')}",
            # No socket file: a path below a deep home would be too long for one.
            "unix_socket_directories=",
            "max_connections=200",
            "log_line_prefix=%m [%p] ",
        )
        options = [part for setting in settings for part in ("-c", setting)]
        return [self.programs / "bin" / "postgres", "-D", self.data, *options]

    def environment(self) -> Mapping[str, str]:
        # PG* variables of the user would change what initdb and postgres do.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**kept, "LC_ALL": "C"}

    def complaint(self, process: psutil.Process) -> str | None:
        if not ports.accepts(LOOPBACK, self.site.port("postgres")):
            return "not yet accepting connections"
        maintenance = PostgresEndpoint(**{**vars(self.endpoint), "database": "postgres"})
        return postgres_complaint(maintenance)

    def settle(self) -> None:
        """Create the database that clients use, if it is not there."""
        try:
            with psycopg.connect(
                **{**self.endpoint.parameters(), "dbname": "postgres"},
                connect_timeout=_CONNECT_TIMEOUT,
                autocommit=True,
            ) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if known is None:
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg.errors.DuplicateDatabase:
            return
        except psycopg.Error as error:
            raise ComponentError(
                self.name,
                f"its database {DATABASE} cannot be created: {error}",
                where=self.address,
                remedy=f"read {self.log}",
                log=self.log,
            ) from error


def postgres_complaint(endpoint: PostgresEndpoint) -> str | None:
    """None if the server lets this user in and answers, else what is lacking. The password is never in the text."""
    try:
        with psycopg.connect(**endpoint.parameters(), connect_timeout=_CONNECT_TIMEOUT) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()
        return reason[-1] if reason else type(error).__name__
    return None


def unprivileged_user() -> tuple[int, int]:
    """(uid, gid) of a user that root can run PostgreSQL as.

    :raises ComponentError: the machine has none.
    """
    for name in _UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise ComponentError(
        "postgres",
        "PostgreSQL refuses to run as root, and there is no unprivileged user to run it as",
        where=f"looked for {', '.join(_UNPRIVILEGED_USERS)}",
        remedy="create a user named postgres, or run hlink as another user, or set HLINK_POSTGRES_URL",
    )


def choose_folder(site: Site) -> Path:
    """Where PostgreSQL's data of this home go."""
    if os.geteuid() != 0:
        return site.folder / "postgres"
    return _root_folder() / hashlib.sha256(str(site.home).encode()).hexdigest()[:16]


def owner_of(folder: Path) -> Path:
    """The file that says to which home a folder outside of it belongs."""
    return folder / "home"


def _root_folder() -> Path:
    """A folder that every user can pass through."""
    for folder in _ROOT_FOLDERS:
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError:
            continue
        return folder
    raise ComponentError(
        "postgres",
        "no folder can be created that an unprivileged user can reach",
        where=" or ".join(map(str, _ROOT_FOLDERS)),
        remedy="make it writable, or run hlink as another user, or set HLINK_POSTGRES_URL",
    )


def remove_folders_of(home: Path) -> None:
    """Remove the folder outside the home, if this home has one."""
    for folder in _outside_folders():
        if _home_of(folder) == home:
            shutil.rmtree(folder)


def sweep_abandoned() -> None:
    """Remove folders outside whose home is no more: their password went with it, so nobody can read them."""
    for folder in _outside_folders():
        home = _home_of(folder)
        if home is not None and not home.exists() and not processes.marked(processes.mark(home, Postgres.name)):
            shutil.rmtree(folder, ignore_errors=True)


def _outside_folders() -> list[Path]:
    if os.geteuid() != 0:
        return []
    return [folder for root in _ROOT_FOLDERS if root.is_dir() for folder in root.iterdir() if folder.is_dir()]


def _home_of(folder: Path) -> Path | None:
    try:
        return Path(owner_of(folder).read_text().strip())
    except FileNotFoundError:
        return None
