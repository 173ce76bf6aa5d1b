"""The fixtures that the other integration tests stand on."""

import os
import subprocess
import sys

from stream_jobs.local import ports


def test_rows_written_to_a_topic_are_read_back_in_order(kafka_topic, produce, consume):
    topic = kafka_topic("orders")
    rows = [{"n": n} for n in range(100)]
    produce(topic, rows, key="n")
    assert consume(topic, 100) == rows
    assert consume(topic, None) == rows


def test_a_table_has_the_rows_that_it_was_made_with(pg_table, postgres):
    table = pg_table("id int primary key, name text", rows=[(1, "a"), (2, "b")])
    assert postgres().execute(f"SELECT * FROM {table} ORDER BY id").fetchall() == [(1, "a"), (2, "b")]


def test_another_process_of_the_run_gets_the_same_stack_and_does_not_end_it_by_leaving(endpoints):
    program = (
        "from tests.stack import shared_stack\n"
        "with shared_stack() as e: print(e.flink_url, e.kafka_bootstrap, e.postgres.port)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == [endpoints.flink_url, endpoints.kafka_bootstrap, str(endpoints.postgres.port)]
    assert ports.accepts("127.0.0.1", endpoints.postgres.port)
