"""Side tables behind an address: what can be seen of them without a key."""

from __future__ import annotations

import httpx

from app.errors import Problem
from app.hlink.connections.outcome import CONNECT_TIMEOUT_S, Check, Outcome, failed, unreachable
from app.hlink.tables import fields
from stream_jobs.definitions import HbaseSink, HttpLookup, RedisLookup, Secret, Table

_LETS_NOBODY_IN = (401, 403, 407)


async def look_at_url(table: Table, lookup: HttpLookup) -> Outcome:
    """Whether the address answers. It is asked without a key, so whatever it says of that is no problem."""
    headers = {name: value.value if isinstance(value, Secret) else value for name, value in lookup.headers.items()}
    try:
        async with httpx.AsyncClient(timeout=min(CONNECT_TIMEOUT_S, lookup.timeout_ms / 1000)) as client:
            answer = await client.get(lookup.url, headers={"Accept-Charset": lookup.charset, **headers})
    except httpx.TimeoutException:
        return failed("address", _silent(table, lookup, "no answer in time"))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return failed("address", _silent(table, lookup, str(error) or type(error).__name__))
    if answer.status_code in _LETS_NOBODY_IN or answer.status_code >= 500:
        return failed("address", _refuses(table, lookup, answer.status_code))
    return Outcome((Check("address", f"{lookup.url} answers, with {answer.status_code} to a request without a key"),))


async def look_at_port(table: Table, connector: RedisLookup | HbaseSink) -> Outcome:
    """Whether something listens where Redis, or HBase's ZooKeeper, should be."""
    match connector:
        case RedisLookup(host=host, port=port):
            field, hosts = "redis_address", [(host, port)]
        case HbaseSink(quorum=quorum):
            field, hosts = "connector_zookeeper_quorum", fields.brokers(quorum)
    shown = ",".join(f"{host}:{port}" for host, port in hosts)
    if reason := await unreachable(hosts):
        return failed(
            "address",
            Problem(
                f"nothing answers at {shown} ({reason})",
                field=field,
                table=table.name,
                remedy=f"start it, or correct {field}",
            ),
        )
    return Outcome((Check("address", f"something listens at {shown}"),))


def _silent(table: Table, lookup: HttpLookup, reason: str) -> Problem:
    return Problem(
        f"{lookup.url} does not answer ({reason})",
        field="requestUrl",
        table=table.name,
        remedy="start the server, or correct requestUrl or timeOut",
    )


def _refuses(table: Table, lookup: HttpLookup, status: int) -> Problem:
    return Problem(
        f"{lookup.url} answers with {status}",
        field="requestUrl",
        table=table.name,
        remedy="give its credentials in headers"
        if status < 500
        else "look into the server's log: a lookup would fail the job",
    )
