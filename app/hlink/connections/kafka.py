"""Brokers and topics, asked as a job's own client would."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from app.errors import Problem
from app.hlink.connections.outcome import CONNECT_TIMEOUT_S, Check, Outcome, failed, unreachable
from app.hlink.tables import fields
from stream_jobs.definitions import KafkaLookup, KafkaSink, KafkaSource, Secret, Table

Connector = KafkaSource | KafkaSink | KafkaLookup

_UNKNOWN_TOPIC, _NOT_AUTHORISED = 3, 29
_SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Brokers:
    """Asks brokers. Clients stay connected between checks: a warm check takes a few milliseconds."""

    def __init__(self) -> None:
        self._clients: dict[Broker, KafkaAdminClient] = {}

    async def close(self) -> None:
        """Close the connections to the brokers."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await asyncio.to_thread(client.close)

    async def look(self, table: Table, connector: Connector) -> Outcome:
        """Whether the broker answers, and has the topic and its partitions."""
        servers = connector.bootstrap_servers
        broker = Broker.of(connector)
        # Asked first, also with a client at hand: that one would try for seconds to reach a broker that is down.
        if reason := await unreachable(fields.brokers(servers)):
            return failed("broker", _no_broker(table, servers, reason))
        answers = Check("broker", f"a broker answers at {servers}")
        if not broker.can_be_asked:
            return Outcome((answers,))
        try:
            topic = await asyncio.to_thread(self._describe, broker, connector.topic)
        except KafkaError as error:
            return failed("broker", _no_broker(table, servers, kafka_reason(error)))
        if problem := _topic_problem(table, connector, topic["error_code"]):
            return failed("topic", problem, answers)
        known = {partition["partition_index"] for partition in topic["partitions"]}
        there = Check("topic", f"topic '{connector.topic}' has {_counted(len(known), 'partition')}")
        wanted = {partition for partition, _ in getattr(connector, "startup_offsets", ())}
        lacking = [
            Check("offsets", problem=_no_partition(table, connector, partition, len(known)))
            for partition in sorted(wanted - known)
        ]
        return Outcome((answers, there, *lacking), partitions=len(known))

    def _describe(self, broker: Broker, topic: str) -> Mapping:  # type: ignore[type-arg]
        """Kafka's metadata of one topic. Runs in a thread; never lets the broker create the topic."""
        client = self._clients.get(broker)
        if client is not None:
            try:
                return _described(client, topic)
            except (KafkaError, RuntimeError):
                # The broker was restarted since, or another check has closed this client (a RuntimeError to the
                # library): once more with a new one.
                self._clients.pop(broker, None)
                client.close()
        client = broker.connect()
        try:
            described = _described(client, topic)
        except KafkaError:
            client.close()
            raise
        kept = self._clients.setdefault(broker, client)
        if kept is not client:  # another check connected meanwhile
            client.close()
        return described


@dataclass(frozen=True)
class Broker:
    """A Kafka cluster and how to be let in."""

    servers: str
    protocol: str = "PLAINTEXT"
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, connector: Connector) -> Broker:
        given = {
            key: value.value if isinstance(value, Secret) else value for key, value in connector.properties.items()
        }
        protocol = given.get("security.protocol", "PLAINTEXT").upper()
        if protocol == "PLAINTEXT":
            return cls(connector.bootstrap_servers)
        login = {
            name: match[2] if (match := re.search(rf"\b{name}\s*=\s*([\"'])(.*?)\1", jaas)) else ""
            for jaas in (given.get("sasl.jaas.config", ""),)
            for name in ("username", "password")
        }
        mechanism = given.get("sasl.mechanism", "GSSAPI").upper()
        return cls(connector.bootstrap_servers, protocol, mechanism, login["username"], login["password"])

    @property
    def can_be_asked(self) -> bool:
        """Whether our client can be what Flink's will be. It reads no Java key stores."""
        if self.protocol == "PLAINTEXT":
            return True
        return self.protocol == "SASL_PLAINTEXT" and self.mechanism in _SASL and bool(self.user)

    def connect(self) -> KafkaAdminClient:
        """A connected client. Raises KafkaError. Blocks for up to ``CONNECT_TIMEOUT_S`` seconds."""
        opened: list[KafkaNetClient] = []

        def net_client(**options: object) -> KafkaNetClient:
            opened.append(KafkaNetClient(**options))
            return opened[-1]

        milliseconds = int(CONNECT_TIMEOUT_S * 1000)
        try:
            return KafkaAdminClient(
                bootstrap_servers=self.servers.split(","),
                bootstrap_timeout_ms=milliseconds,
                request_timeout_ms=milliseconds,
                client_id="hlink-check",
                kafka_client=net_client,
                **self._login(),
            )
        except KafkaError:
            # The client starts its thread before it connects, and does not end it when that fails.
            for client in opened:
                client.close()
                client._manager._net.stop()
            raise

    def consumer(self) -> KafkaConsumer:
        """A consumer that belongs to no group. Raises KafkaError. Blocks as :meth:`connect`."""
        return KafkaConsumer(**self.consumer_options("hlink-sample"))

    def consumer_options(self, client: str) -> dict[str, Any]:
        """What a consumer that belongs to no group is made with; ``client`` is what the broker calls it."""
        milliseconds = int(CONNECT_TIMEOUT_S * 1000)
        return {
            "bootstrap_servers": self.servers.split(","),
            "client_id": client,
            "group_id": None,
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
            "bootstrap_timeout_ms": milliseconds,
            "request_timeout_ms": milliseconds,
            **self._login(),
        }

    def _login(self) -> dict[str, str]:
        if self.protocol == "PLAINTEXT":
            return {}
        return {
            "security_protocol": self.protocol,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.user,
            "sasl_plain_password": self.password,
        }


def _topic_problem(table: Table, connector: Connector, error_code: int) -> Problem | None:
    if error_code == _NOT_AUTHORISED:
        return Problem(
            f"the broker {connector.bootstrap_servers} refuses to show topic '{connector.topic}'",
            field="connector_topic",
            table=table.name,
            remedy="let the user of the client properties describe and read or write the topic",
        )
    if error_code == _UNKNOWN_TOPIC:
        return Problem(
            f"topic '{connector.topic}' does not exist on broker {connector.bootstrap_servers}",
            field="connector_topic",
            table=table.name,
            remedy="create the topic, or correct connector_topic or bootstrap_servers",
        )
    return None


def _no_partition(table: Table, connector: Connector, partition: int, there_are: int) -> Problem:
    return Problem(
        f"topic '{connector.topic}' has no partition {partition}, it has {there_are}",
        field="partition_offset",
        table=table.name,
        remedy=f"give offsets of the partitions 0 to {there_are - 1}",
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _described(client: KafkaAdminClient, topic: str) -> Mapping:  # type: ignore[type-arg]
    (described,) = client.describe_topics([topic])
    found: Mapping = described  # type: ignore[type-arg]
    return found


def _no_broker(table: Table, servers: str, reason: str) -> Problem:
    return Problem(
        f"no Kafka broker answers at {servers} ({reason})",
        field="bootstrap_servers",
        table=table.name,
        remedy="start the broker, or correct bootstrap_servers",
    )


def kafka_reason(error: KafkaError | str) -> str:
    """What a client says, for people."""
    text = str(error)
    return "what answers there is not a Kafka broker, or it refuses the client" if "bootstrap" in text else text
