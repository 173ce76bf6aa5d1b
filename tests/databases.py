"""Databases for tests: a schema of PostgreSQL for the service's own tables, and a server that speaks as MySQL does."""

from __future__ import annotations

import subprocess
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from psycopg import sql

from stream_jobs.local import artifacts, ports
from stream_jobs.local.endpoints import PostgresEndpoint
from tests.stack import shared_artifacts


@contextmanager
def postgres_schema(postgres: PostgresEndpoint) -> Iterator[str]:
    """The address of an empty schema of its own in this PostgreSQL; dropped at the end."""
    name = f"hlink_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(**postgres.parameters(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        try:
            yield f"{postgres.url}?options=-csearch_path%3D{name}"
        finally:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


@dataclass(frozen=True)
class MysqlServer:
    """A MariaDB with one database and one user who may do everything."""

    port: int
    user: str = "hlink"
    password: str = "my-pa55"
    database: str = "shop"

    @property
    def jdbc_url(self) -> str:
        return f"jdbc:mysql://127.0.0.1:{self.port}/{self.database}"

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with (
            pymysql.connect(
                host="127.0.0.1",
                port=self.port,
                user=self.user,
                password=self.password,
                database=self.database,
                autocommit=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())


@contextmanager
def mysql_server(folder: Path) -> Iterator[MysqlServer]:
    """A server of its own in an empty folder; ended, and its data removed with the folder."""
    home = _unpacked_mariadb(folder)
    data = folder / "data"
    data.mkdir()
    server = MysqlServer(ports.choose(set()))
    first_words = folder / "init.sql"
    first_words.write_text(
        f"CREATE DATABASE {server.database};\n"
        f"CREATE USER '{server.user}'@'%' IDENTIFIED BY '{server.password}';\n"
        f"GRANT ALL ON *.* TO '{server.user}'@'%';\n"
    )
    command = [
        str(home / "bin" / "mariadbd"), "--no-defaults", "--user=root", f"--basedir={home}", f"--datadir={data}",
        f"--lc-messages-dir={home / 'share'}", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M",
    ]  # fmt: skip
    system_tables = "".join(
        (home / "share" / f"mariadb_system_tables{part}.sql").read_text("utf-8") for part in ("", "_data")
    )
    boot = f"CREATE DATABASE mysql;\nUSE mysql;\n{system_tables}"
    subprocess.run([*command, "--bootstrap"], input=boot, text=True, check=True, capture_output=True)
    command += [
        f"--port={server.port}", "--bind-address=127.0.0.1", f"--socket={folder / 'socket'}", "--skip-ssl",
        "--skip-name-resolve", f"--init-file={first_words}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_for(server, process, folder / "log")
        yield server
    finally:
        process.terminate()
        process.wait(60)


def _unpacked_mariadb(folder: Path) -> Path:
    artifacts.fetch(("test-databases",), shared_artifacts())
    (jar,) = artifacts.paths("test-databases", shared_artifacts())
    with zipfile.ZipFile(jar) as archive:
        server = next(name for name in archive.namelist() if name.endswith("/bin/mariadbd"))
        root = server.removesuffix("bin/mariadbd")
        wanted = [name for name in archive.namelist() if name == server or name.startswith(f"{root}share/")]
        archive.extractall(folder, wanted)
    (folder / server).chmod(0o755)
    return folder / root


def _wait_for(server: MysqlServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            server.execute("SELECT 1")
            return
        except pymysql.Error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"MariaDB did not start:\n{log.read_text()[-4000:]}") from None
            time.sleep(0.1)
