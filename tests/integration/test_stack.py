"""The embedded stack under the accidents that happen to it. Everything is real: processes, signals, ports, files."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from stream_jobs.local import ports, processes
from stream_jobs.local.components import base
from stream_jobs.local.components.postgres import Postgres
from stream_jobs.local.endpoints import Endpoints, External
from stream_jobs.local.errors import ComponentError, StackStateError
from stream_jobs.local.stack import ComponentState, Stack
from tests.stack import kill, shared_artifacts

# They share one stack, so with --dist loadgroup they stay on one worker.
pytestmark = pytest.mark.xdist_group("stack")

HLINK = [sys.executable, "-m", "app.cli"]
OWN = ("kafka", "jobmanager", "taskmanager", "postgres")
COMMAND_TIMEOUT = 120


class Home:
    """A home of its own, with the commands of the command line and what they leave to be seen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack = Stack(path, artifacts_folder=shared_artifacts())
        foreign = {name for name in os.environ if name.startswith("HLINK_")}
        self.environment = {name: value for name, value in os.environ.items() if name not in foreign}
        self.environment |= {"HLINK_HOME": str(path), "HLINK_ARTIFACTS": str(shared_artifacts())}

    def hlink(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HLINK, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )

    def start_hlink(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*HLINK, *arguments],
            env={**self.environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background lets its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def up(self) -> Endpoints:
        return self.stack.up()

    def pids(self) -> dict[str, int]:
        """The one process of each component that runs; fails if a component has two."""
        found = {name: processes.marked(processes.mark(self.stack.home, name)) for name in OWN}
        assert all(len(running) <= 1 for running in found.values()), found
        return {name: running[0].pid for name, running in found.items() if running}

    def ports(self) -> dict[str, int]:
        return json.loads(self.stack.state_file.read_text())["ports"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One home for the tests of this file: each leaves it as it likes, and the next brings it up."""
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    home.stack.down(purge=True)


@pytest.fixture
def other_home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "other")
    yield home
    home.stack.down(purge=True)


def only(component: str, endpoints: Endpoints) -> External:
    """The settings under which a stack runs just this one itself, and the rest is another stack's."""
    return External(
        flink_url=None if component == "flink" else endpoints.flink_url,
        kafka_bootstrap=None if component == "kafka" else endpoints.kafka_bootstrap,
        postgres_url=None if component == "postgres" else endpoints.postgres.url,
    )


def read_line_with(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the command ended without saying {text!r}")


# The order matters for speed only: a test that needs a running stack calls up(), which is quick when it runs already.


def test_two_ups_at_once_make_one_stack(home: Home):
    first, second = home.start_hlink("up", "--json"), home.start_hlink("up", "--json")
    said = [process.communicate(timeout=COMMAND_TIMEOUT)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), "\n---\n".join(said)
    assert home.pids().keys() == set(OWN)
    assert all(state.state is ComponentState.HEALTHY for state in home.stack.status())


def test_a_second_up_changes_nothing(home: Home):
    endpoints, pids = home.up(), home.pids()
    done = home.hlink("up", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["flink_url"] == endpoints.flink_url
    assert home.pids() == pids


def test_the_password_is_random_and_only_its_owner_can_read_it(home: Home, other_home: Home):
    endpoints = home.up()
    assert stat.S_IMODE(home.stack.state_file.stat().st_mode) == 0o600
    assert len(endpoints.postgres.password) >= 24
    assert endpoints.postgres.password not in repr(endpoints)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(**{**endpoints.postgres.parameters(), "password": "wrong"})


def test_processes_are_out_of_reach_of_a_terminals_ctrl_c(home: Home):
    home.up()
    assert all(os.getsid(pid) == pid for pid in home.pids().values())


def test_status_is_zero_only_when_all_are_healthy(home: Home):
    home.up()
    healthy = home.hlink("status", "--json")
    assert healthy.returncode == 0
    assert {one["name"]: one["state"] for one in json.loads(healthy.stdout)} == dict.fromkeys(OWN, "healthy")
    kill(home.stack, "postgres")
    broken = home.hlink("status")
    assert broken.returncode == 1
    assert "stopped" in broken.stdout


def test_the_doctor_finds_nothing_wrong_with_a_running_stack(home: Home):
    home.up()
    done = home.hlink("doctor", "--json")
    found = {one["subject"]: one["verdict"] for one in json.loads(done.stdout)}
    assert done.returncode == 0, found
    assert {found[name] for name in OWN} == {"ok"}


def test_the_doctor_names_what_is_missing_with_its_remedy(other_home: Home, tmp_path: Path):
    other_home.environment["HLINK_ARTIFACTS"] = str(tmp_path / "none")
    done = other_home.hlink("doctor")
    assert done.returncode == 1
    assert "hlink fetch kafka" in done.stdout


def test_up_repairs_what_was_killed_and_leaves_the_rest_alone(home: Home):
    home.up()
    before = home.pids()
    kill(home.stack, "taskmanager", "kafka", "postgres")
    home.up()
    after = home.pids()
    assert after["jobmanager"] == before["jobmanager"]
    assert all(after[name] != before[name] for name in ("taskmanager", "kafka", "postgres"))


def test_up_repairs_a_jobmanager_and_its_taskmanager_joins_again(home: Home):
    home.up()
    before = home.pids()
    kill(home.stack, "jobmanager")
    home.up()
    after = home.pids()
    assert after["jobmanager"] != before["jobmanager"]
    assert after["taskmanager"] == before["taskmanager"]


def test_data_and_addresses_survive_down_and_up(home: Home):
    endpoints = home.up()
    producer = KafkaProducer(bootstrap_servers=endpoints.kafka_bootstrap)
    producer.send("kept", b"42").get(timeout=30)
    producer.close()
    with psycopg.connect(**endpoints.postgres.parameters()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
    home.stack.down()
    assert home.up() == endpoints
    consumer = KafkaConsumer(bootstrap_servers=endpoints.kafka_bootstrap, auto_offset_reset="earliest")
    consumer.assign([TopicPartition("kept", 0)])
    records = consumer.poll(timeout_ms=20_000)
    consumer.close()
    assert [record.value for batch in records.values() for record in batch] == [b"42"]
    with psycopg.connect(**endpoints.postgres.parameters()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (42,)


def test_down_leaves_no_process_and_no_port(home: Home):
    home.up()
    taken = home.ports()
    assert home.hlink("down").returncode == 0
    assert home.pids() == {}
    assert {name: port for name, port in taken.items() if not ports.is_free(port)} == {}
    assert home.hlink("status").returncode == 3


def test_down_is_a_success_when_nothing_runs(other_home: Home):
    assert other_home.hlink("down").returncode == 0
    assert not other_home.path.exists()


@pytest.mark.parametrize("moment", ["jobmanager   starting", "kafka        nothing accepts"])
def test_a_stack_whose_starter_was_killed_is_taken_over_by_the_next_up(home: Home, moment: str):
    home.stack.down()
    starter = home.start_hlink("up")
    read_line_with(starter, moment)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    left = home.pids()
    home.up()
    assert left.items() <= home.pids().items()


def test_a_stack_whose_starter_was_killed_is_ended_by_down(home: Home):
    home.stack.down()
    starter = home.start_hlink("up")
    read_line_with(starter, "taskmanager  starting")
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    assert home.pids() != {}
    assert home.hlink("down").returncode == 0
    assert home.pids() == {}


def test_ctrl_c_in_the_middle_of_up_ends_what_it_started(home: Home):
    home.stack.down()
    starter = home.start_hlink("up")
    read_line_with(starter, "taskmanager  starting")
    starter.send_signal(signal.SIGINT)
    said, _ = starter.communicate(timeout=COMMAND_TIMEOUT)
    assert starter.returncode == 130, said
    assert home.pids() == {}


def test_ctrl_c_leaves_alone_what_ran_before(home: Home):
    home.up()
    before = home.pids()
    kill(home.stack, "kafka")
    starter = home.start_hlink("up")
    read_line_with(starter, "kafka        starting")
    starter.send_signal(signal.SIGINT)
    starter.communicate(timeout=COMMAND_TIMEOUT)
    assert home.pids() == {name: pid for name, pid in before.items() if name != "kafka"}


def test_a_component_that_hangs_is_replaced(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.up()
    before = home.pids()
    monkeypatch.setattr(base, "HANG_GRACE", 1.0)
    monkeypatch.setattr(Postgres, "start_timeout", 15.0)
    monkeypatch.setattr(Postgres, "stop_grace", 1.0)
    psutil.Process(before["postgres"]).suspend()
    home.up()
    after = home.pids()
    assert after["postgres"] != before["postgres"]
    assert after["kafka"] == before["kafka"]


def test_a_port_that_was_taken_meanwhile_is_given_up(home: Home, other_home: Home):
    stack = Stack(other_home.path, only("postgres", home.up()), shared_artifacts())
    former = stack.up().postgres.port
    stack.down()
    with socket.create_server(("127.0.0.1", former)):
        assert stack.up().postgres.port != former


def test_external_services_are_used_and_not_ended(home: Home, other_home: Home):
    endpoints = home.up()
    stack = Stack(other_home.path, only("none", endpoints), shared_artifacts())
    assert stack.up() == endpoints
    assert [(one.external, one.state) for one in stack.status()] == [(True, ComponentState.HEALTHY)] * 3
    stack.down()
    assert home.pids().keys() == set(OWN)
    assert other_home.pids() == {}


@pytest.mark.parametrize(
    ("external", "setting"),
    [
        (External(flink_url="http://127.0.0.1:9"), "HLINK_FLINK_URL"),
        (External(kafka_bootstrap="127.0.0.1:9"), "HLINK_KAFKA_BOOTSTRAP"),
        (External(postgres_url="postgresql://u:s3cret@127.0.0.1:9/d"), "HLINK_POSTGRES_URL"),
    ],
)
def test_an_external_service_that_does_not_answer_is_named_with_its_setting(
    other_home: Home, external: External, setting: str
):
    with pytest.raises(ComponentError, match=setting) as caught:
        Stack(other_home.path, external, shared_artifacts()).up()
    assert "s3cret" not in str(caught.value)
    assert other_home.pids() == {}


def corrupt_kafka(home: Path) -> None:
    meta = home / "stack" / "kafka" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))


def deny_kafka_its_data(home: Path) -> None:
    # Root may write anywhere, so the folder's place is taken by a file.
    data = home / "stack" / "kafka" / "data"
    subprocess.run(["rm", "-r", data], check=True)
    data.write_text("not a folder")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(corrupt_kafka, "(?i)node.id"), (deny_kafka_its_data, "No available log directories")],
)
def test_a_broker_that_cannot_start_says_why(home: Home, other_home: Home, damage: Callable[[Path], None], reason: str):
    stack = Stack(other_home.path, only("kafka", home.up()), shared_artifacts())
    stack.up()
    stack.down()
    damage(other_home.path)
    with pytest.raises(ComponentError, match=reason) as caught:
        stack.up()
    assert caught.value.component == "kafka"
    assert caught.value.remedy
    assert other_home.pids() == {}


def test_a_database_that_cannot_start_says_why(home: Home, other_home: Home):
    stack = Stack(other_home.path, only("postgres", home.up()), shared_artifacts())
    stack.up()
    stack.down()
    folder = Path(json.loads(stack.state_file.read_text())["postgres_folder"])
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("\nshared_buffers = plenty\n")
    with pytest.raises(ComponentError, match='invalid value for parameter "shared_buffers": "plenty"') as caught:
        stack.up()
    assert "postgres" in str(caught.value)
    assert str(caught.value.log) in str(caught.value)


def test_a_damaged_state_file_is_named_and_does_not_keep_down_from_working(home: Home, other_home: Home):
    stack = Stack(other_home.path, only("postgres", home.up()), shared_artifacts())
    stack.up()
    stack.state_file.write_text("{")
    with pytest.raises(StackStateError, match=r"state\.json"):
        stack.up()
    stack.down(purge=True)
    assert other_home.pids() == {}
    assert stack.up().postgres.port


def test_a_process_of_another_home_is_never_touched(home: Home, other_home: Home):
    home.up()
    before = home.pids()
    other_home.hlink("down")
    Stack(home.path.parent, artifacts_folder=shared_artifacts()).down()
    assert home.pids() == before
