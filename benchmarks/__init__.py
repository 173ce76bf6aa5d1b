"""The benchmark: the service against Flink's own SQL Gateway and SQL client, on one machine and in one run.

``make bench`` runs it, prints a table and writes ``latest.json``. What is measured how: :mod:`benchmarks.__main__`.
"""
