"""Definitions to Flink SQL: pure functions. Nothing here talks to anything."""
