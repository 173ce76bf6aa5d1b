"""Kafka: one KRaft node that is broker and controller."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

import psutil

from stream_jobs.local import artifacts, ports
from stream_jobs.local.components.base import Component, Symptom, java_environment, java_options, write_log4j
from stream_jobs.local.ports import LOOPBACK
from stream_jobs.local.progress import Progress, Step

_FORMAT_TIMEOUT = 90

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=BROKER://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=BROKER://{host}:{broker}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
log.dirs={data}
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Kafka(Component):
    """The broker. Its data survive ``down`` and ``up``, also when the ports change."""

    name = "kafka"
    port_names = ("kafka.broker", "kafka.controller")
    symptoms = (
        Symptom(re.compile("Permission denied|AccessDenied|Read-only"), "make the data folder writable for this user"),
        Symptom(
            re.compile("BindException|Address already in use"), "another program took its port; run: hlink up again"
        ),
        Symptom(re.compile("No space left"), "free disk space, then run: hlink up"),
        Symptom(re.compile("OutOfMemoryError|insufficient memory"), "free memory: the broker needs about 0.7 GB"),
        Symptom(
            re.compile("meta.properties|LogDirFailure|log dir|InconsistentClusterId|Corrupt|CRC"),
            "its data folder is damaged; if the embedded data may go: hlink down --purge && hlink up",
        ),
    )

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.site.port('kafka.broker')}"

    @property
    def data(self) -> Path:
        return self.working_folder() / "data"

    @property
    def _properties(self) -> Path:
        return self.working_folder() / "server.properties"

    @property
    def _log4j(self) -> Path:
        return self.working_folder() / "log4j2.properties"

    def prepare(self, progress: Progress) -> None:
        self._properties.write_text(
            _PROPERTIES.format(
                host=LOOPBACK,
                broker=self.site.port("kafka.broker"),
                controller=self.site.port("kafka.controller"),
                data=self.data,
            )
        )
        write_log4j(self._log4j)
        # The format writes this file last, so a format that was killed is done again from nothing.
        if not (self.data / "meta.properties").exists():
            progress(Step(self.name, "formatting its data folder"))
            self._format()

    def _format(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        cluster = _cluster_id()
        command = self._java("kafka-format", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        command += ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", self._properties]
        done = subprocess.run(
            [str(part) for part in command],
            env=dict(self.environment()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
            timeout=_FORMAT_TIMEOUT,
            check=False,
        )
        if done.returncode:
            self.output.write_text(done.stdout)
            raise self._failure(f"its data folder cannot be formatted (status {done.returncode})")

    def command(self) -> list[str | Path]:
        return [*self._java(self.name, "-Xms256m", "-Xmx512m", "-XX:+UseG1GC"), "kafka.Kafka", self._properties]

    def _java(self, log_name: str, *options: str) -> list[str | Path]:
        jars = artifacts.paths("kafka", self.site.artifacts)
        return [
            self.site.installation.java,
            f"-D{self.mark}",
            *options,
            *java_options(),
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self._log4j.as_uri()}",
            f"-Dlog.file={self.site.logs / log_name}.log",
            "-cp",
            os.pathsep.join(str(jar) for jar in jars),
        ]

    def environment(self) -> Mapping[str, str]:
        return java_environment(self.site, {}, os.environ)

    def complaint(self, process: psutil.Process) -> str | None:
        return kafka_complaint(self.address)


def kafka_complaint(bootstrap: str, timeout: float = 3.0) -> str | None:
    """None if a broker at the address answers with a live broker in its metadata, else what is lacking."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if port.isdigit() and ports.accepts(host.strip("[]"), int(port)):
            break
    else:
        return f"nothing accepts connections at {bootstrap}"

    # Imported late: it costs a noticeable part of a second, and most calls end above.
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaConfigurationError, KafkaError

    logging.getLogger("kafka").addHandler(logging.NullHandler())
    milliseconds = int(timeout * 1000)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            bootstrap_timeout_ms=milliseconds,
            request_timeout_ms=milliseconds,
        )
    except KafkaConfigurationError:
        # A mistake of ours, not an answer of the broker.
        raise
    except (KafkaError, OSError, ValueError) as error:
        return f"accepts connections but does not answer: {type(error).__name__}"
    try:
        brokers = admin.describe_cluster()["brokers"]
    except (KafkaError, OSError, KeyError) as error:
        return f"answers, but not for its cluster: {type(error).__name__}"
    finally:
        admin.close()
    return None if brokers else "has no live broker yet"


def _cluster_id() -> str:
    """A random id as Kafka makes them: never with a dash first, which its tool would take for an option."""
    while (made := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made
