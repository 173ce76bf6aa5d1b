def test_rows_written_to_a_topic_are_read_back_in_order(kafka_topic, produce, consume):
    topic = kafka_topic("orders")
    rows = [{"n": n} for n in range(100)]
    produce(topic, rows, key="n")
    assert consume(topic, 100) == rows
    assert consume(topic, None) == rows


def test_a_table_has_the_rows_that_it_was_made_with(pg_table, postgres):
    table = pg_table("id int primary key, name text", rows=[(1, "a"), (2, "b")])
    assert postgres().execute(f"SELECT * FROM {table} ORDER BY id").fetchall() == [(1, "a"), (2, "b")]
