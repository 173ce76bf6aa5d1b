"""The columns of a table from what describes its messages: a JSON Schema, an Avro schema, or sample messages."""
