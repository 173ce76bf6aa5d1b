"""What is said of a failure: by chains of exceptions that a real Flink 2.3 gave, and by those that it could not be made
to give here."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_jobs import causes
from stream_jobs.rest import JobException, root_cause

RECORDED = Path(__file__).parents[1] / "failures"

LOST = "A TaskManager was lost: look into that TaskManager's log for the reason; "
SENTENCES = {
    "broker_gone_exactly_once": "The Kafka broker does not answer: start it, ",
    "cast": "The statement casts a value that cannot be cast (For input string: 'a'. Invalid ",
    "checkpoint_expired": "A checkpoint was not complete in time: look at the job's back-pressure, ",
    "class_not_found": "The class shop.Missing is not on the cluster: put what has it into the jar ",
    "database_key": "The database refused a row, because its key is there already (t_key_v_key): ",
    "database_null": "The database refused a row, because v must not be null: leave such rows out ",
    "database_table": "A table is not in the database any more (t_gone): create it again, or correct table_name",
    "deserialisation": "A message cannot be read by the columns of its table: set on_parse_error ",
    "deserialisation_field": "A message cannot be read by the columns of its table: set on_parse_error ",
    "division_by_zero": "The statement divides by zero: guard the divisor with NULLIF(divisor, 0).",
    "lookup_table_dropped": "A table is not in the database any more (side_a81356): create it again, ",
    "out_of_memory": LOST,
    "taskmanager_lost": LOST,
    "taskmanager_shut_down": LOST,
    "transaction_timeout_too_long": "The sink's transactions may take longer than the broker allows: lower ",
}


def test_every_recorded_chain_is_tried() -> None:
    assert {file.stem for file in RECORDED.glob("*.txt")} == set(SENTENCES)


@pytest.mark.parametrize("name", SENTENCES)
def test_a_recorded_chain_is_told_in_one_sentence_with_its_remedy_and_its_deepest_cause(name: str) -> None:
    trace = (RECORDED / f"{name}.txt").read_text()
    failure = JobException(stacktrace=trace)
    assert failure.told.startswith(SENTENCES[name])
    assert failure.told.endswith(f". The cause: {root_cause(trace)}")


@pytest.mark.parametrize(
    ("deepest", "sentence"),
    [
        ("java.lang.OutOfMemoryError: Java heap space", "A TaskManager ran out of heap memory"),
        ("java.lang.OutOfMemoryError: Metaspace", "A TaskManager has no memory left for classes"),
        ("java.lang.OutOfMemoryError: Direct buffer memory", "A TaskManager has no direct memory left"),
        (
            "java.util.concurrent.TimeoutException: Heartbeat of TaskManager with id 10.0.0.4:33 timed out.",
            "A TaskManager was lost",
        ),
        (
            "org.apache.flink.kafka.shaded.org.apache.kafka.common.errors.UnknownTopicOrPartitionException: This "
            "server does not host this topic-partition.",
            "A topic is not there any more",
        ),
        (
            "org.apache.kafka.common.errors.TimeoutException: Topic orders not present in metadata after 60000 ms.",
            "A topic is not there any more (orders)",
        ),
        (
            "org.apache.kafka.common.errors.TimeoutException: Expiring 5 record(s) for out-0:120000 ms has passed "
            "since batch creation",
            "The Kafka broker does not answer",
        ),
        (
            "org.apache.kafka.common.errors.InvalidTxnStateException: The producer attempted a transactional operation "
            "in an invalid state.",
            "A transaction of the sink was ended by the broker, because it took too long or another job has its prefix",
        ),
        (
            "org.apache.kafka.common.errors.InvalidPidMappingException: The producer attempted to use a producer id "
            "which is not currently assigned to its transactional id.",
            "A transaction of the sink was ended by the broker, because it took too long or another job has its prefix",
        ),
        (
            "java.sql.SQLException: Access denied for user 'x'@'y' (using password: YES)",
            "The database refused the user",
        ),
        (
            "org.postgresql.util.PSQLException: Connection to db:5432 refused. Check that the hostname and port are "
            "correct",
            "The database does not answer (db:5432)",
        ),
        (
            "com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure",
            "The database does not answer",
        ),
        (
            "java.sql.SQLIntegrityConstraintViolationException: Duplicate entry 'a' for key 't.PRIMARY'",
            "The database refused a row, because its key is there already (t.PRIMARY)",
        ),
        (
            "org.apache.flink.util.StateMigrationException: The new state serializer must not be incompatible",
            "The state does not fit the statement any more",
        ),
        (
            "org.apache.flink.runtime.jobmanager.scheduler.NoResourceAvailableException: Could not acquire the minimum "
            "required resources.",
            "The cluster has not enough free slots",
        ),
    ],
)
def test_a_cause_that_is_known_from_its_words_is_told(deepest: str, sentence: str) -> None:
    trace = (
        f"org.apache.flink.runtime.JobException: Recovery is suppressed\n\tat a.B.c(B.java:1)\nCaused by: {deepest}\n"
    )
    found = causes.explained(trace)
    assert found is not None
    assert found.sentence == sentence


def test_a_failure_of_what_follows_the_source_is_not_one_of_its_messages() -> None:
    trace = (
        "java.io.IOException: Failed to deserialize consumer record due to\n\tat a.B.c(B.java:1)\n"
        "Caused by: org.apache.flink.streaming.runtime.tasks.ExceptionInChainedOperatorException: Could not forward\n"
        "Caused by: java.lang.IllegalStateException: mine\n"
    )
    assert causes.explained(trace) is None
    assert JobException(stacktrace=trace).told == "java.lang.IllegalStateException: mine"


def test_a_suppressed_exception_explains_nothing() -> None:
    trace = (
        "a.A: it broke\n\tat a.B.c(B.java:1)\n\tSuppressed: java.lang.OutOfMemoryError: Java heap space\n"
        "\t\tat a.B.c(B.java:2)\n\tCaused by: java.lang.OutOfMemoryError: Metaspace\nCaused by: b.B: why\n"
    )
    assert causes.chain(trace) == ["a.A: it broke", "b.B: why"]
    assert causes.explained(trace) is None


def test_nothing_is_told_of_nothing() -> None:
    assert causes.explained("") is None
    assert JobException(exceptionName="a.A").told == "a.A"
