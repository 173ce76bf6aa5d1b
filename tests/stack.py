"""One stack for all tests of a run that need one, however many processes the run has.

The stack lives in a temporary home of its own and shares only the downloaded artifacts with the developer's home. Each
test process (pytest, or a worker of pytest-xdist) enters itself as a user of that home; the last living user to leave
ends the stack. Users are known by pid and start time, so a process that crashed does not count, and what a killed run
left behind is removed by the next run.

With ``HLINK_TEST_STACK=containers`` the services run in containers on the host's network instead.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psutil

from stream_jobs.local import artifacts, ports, processes
from stream_jobs.local.components.flink import flink_complaint, slots
from stream_jobs.local.components.kafka import kafka_complaint
from stream_jobs.local.components.postgres import postgres_complaint
from stream_jobs.local.endpoints import Endpoints, PostgresEndpoint
from stream_jobs.local.locks import exclusive
from stream_jobs.local.stack import Stack

ROOT = Path(__file__).resolve().parent.parent

_LOCK_TIMEOUT = 300.0
_CONTAINER_TIMEOUT = 180.0


def shared_artifacts() -> Path:
    """The downloaded artifacts of the developer's home, which all test stacks use."""
    home = Path(os.environ.get("HLINK_HOME", ROOT / ".hlink"))
    return artifacts.artifacts_dir(home.expanduser().resolve())


def kill(stack: Stack, *components: str) -> None:
    """``kill -9``, until they are gone: what is just dying may still look alive."""
    killed = []
    for name in components:
        (process,) = processes.marked(processes.mark(stack.home, name))
        process.kill()
        killed.append(process)
    _, alive = psutil.wait_procs(killed, 10)
    assert not alive, alive


@contextmanager
def shared_stack() -> Iterator[Endpoints]:
    """The run's stack: started by the first process that asks, ended when the last leaves."""
    runs = Path(tempfile.gettempdir()) / f"hlink-tests-{os.getuid()}"
    runs.mkdir(mode=0o700, exist_ok=True)
    run = runs / _run_name()
    users = run / "users"
    containers = os.environ.get("HLINK_TEST_STACK") == "containers"
    with exclusive(runs / ".lock", _LOCK_TIMEOUT):
        _remove_dead_runs(runs)
        users.mkdir(parents=True, exist_ok=True)
        (users / str(os.getpid())).write_text(str(psutil.Process().create_time()))
    try:
        with exclusive(run / ".lock", _LOCK_TIMEOUT):
            endpoints = _containers_up(run) if containers else Stack(run, artifacts_folder=shared_artifacts()).up()
        yield endpoints
    finally:
        with exclusive(runs / ".lock", _LOCK_TIMEOUT):
            (users / str(os.getpid())).unlink()
            if not _living_users(run):
                _end(run)


def _run_name() -> str:
    """The same in all processes of one run of pytest, and in no other."""
    own = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"single-{os.getpid()}-{time.time_ns()}"
    # In the environment, so that a program that a test starts belongs to the run too.
    return os.environ.setdefault("HLINK_TEST_RUN", own)


def _remove_dead_runs(runs: Path) -> None:
    for run in runs.iterdir():
        if run.is_dir() and not _living_users(run):
            _end(run)


def _living_users(run: Path) -> list[int]:
    living = []
    for user in (run / "users").glob("*"):
        try:
            if psutil.Process(int(user.name)).create_time() == float(user.read_text()):
                living.append(int(user.name))
        except (psutil.NoSuchProcess, ValueError):
            continue
    return living


def _end(run: Path) -> None:
    _containers_down(run)
    Stack(run, artifacts_folder=shared_artifacts()).down(purge=True)
    shutil.rmtree(run, ignore_errors=True)


def _containers_up(run: Path) -> Endpoints:
    """Start the three services in containers, or find those that another process of this run has started.

    All are on the host's network, because Flink and the tests must reach Kafka under the same address.
    """
    known = run / "containers.json"
    if known.exists():
        found = json.loads(known.read_text())["endpoints"]
        return Endpoints(found["flink_url"], found["kafka_bootstrap"], PostgresEndpoint(**found["postgres"]))

    from testcontainers.core.container import DockerContainer
    from testcontainers.core.image import DockerImage

    # Ryuk would end the containers with the first worker that leaves.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    taken: set[int] = set()
    for _ in range(5):
        taken.add(ports.choose(taken))
    broker, controller, rest, rpc, database = taken
    flink = DockerImage(path=str(ROOT), dockerfile_path="docker/Dockerfile", tag="hlink:test", clean_up=False)
    flink.build()
    properties = "\n".join(
        (
            "jobmanager.rpc.address: 127.0.0.1",
            f"jobmanager.rpc.port: {rpc}",
            "jobmanager.bind-host: 127.0.0.1",
            "taskmanager.host: 127.0.0.1",
            "taskmanager.bind-host: 127.0.0.1",
            "taskmanager.numberOfTaskSlots: 8",
            "jobmanager.memory.process.size: 1g",
            "taskmanager.memory.process.size: 3g",
            "taskmanager.memory.jvm-metaspace.size: 512m",
            "rest.address: 127.0.0.1",
            f"rest.port: {rest}",
            f"rest.bind-port: {rest}",
            "execution.checkpointing.dir: file:///tmp/hlink/checkpoints",
            "execution.checkpointing.savepoint-dir: file:///tmp/hlink/savepoints",
            "execution.checkpointing.externalized-checkpoint-retention: RETAIN_ON_CANCELLATION",
            "classloader.check-leaked-classloader: false",
        )
    )
    kafka = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@127.0.0.1:{controller}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "KAFKA_ADVERTISED_LISTENERS": f"BROKER://127.0.0.1:{broker}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "BROKER",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
    containers = [
        DockerContainer("apache/kafka:4.1.2").with_envs(**kafka),
        DockerContainer(str(flink)).with_env("FLINK_PROPERTIES", properties).with_command("flink.sh jobmanager"),
        DockerContainer(str(flink)).with_env("FLINK_PROPERTIES", properties).with_command("flink.sh taskmanager"),
        DockerContainer("postgres:18")
        .with_envs(POSTGRES_USER="hlink", POSTGRES_PASSWORD="hlink", POSTGRES_DB="hlink")
        .with_command(f"postgres -c listen_addresses=127.0.0.1 -c port={database}"),
    ]
    endpoints = Endpoints(
        flink_url=f"http://127.0.0.1:{rest}",
        kafka_bootstrap=f"127.0.0.1:{broker}",
        postgres=PostgresEndpoint("127.0.0.1", database, "hlink", "hlink", "hlink"),
    )
    ids: list[str] = []
    for container in containers:
        container.with_kwargs(network_mode="host").start()
        ids.append(container.get_wrapped_container().id)
        # After each, so that a killed run leaves no container that the next one does not know.
        known.write_text(json.dumps({"ids": ids, "endpoints": asdict(endpoints)}))
    _wait_for(endpoints)
    return endpoints


def _wait_for(endpoints: Endpoints) -> None:
    deadline = time.monotonic() + _CONTAINER_TIMEOUT
    while True:
        lacking = (
            kafka_complaint(endpoints.kafka_bootstrap)
            or flink_complaint(endpoints.flink_url)
            or (None if (slots(endpoints.flink_url) or (0, 0))[1] else "no TaskManager yet")
            or postgres_complaint(endpoints.postgres)
        )
        if lacking is None:
            return
        assert time.monotonic() < deadline, f"the containers are not ready after {_CONTAINER_TIMEOUT:.0f} s: {lacking}"
        time.sleep(0.5)


def _containers_down(run: Path) -> None:
    known = run / "containers.json"
    if not known.exists():
        return
    import docker

    client = docker.from_env()
    for container in json.loads(known.read_text())["ids"]:
        try:
            client.containers.get(container).remove(force=True, v=True)
        except docker.errors.NotFound:
            continue
    known.unlink()
