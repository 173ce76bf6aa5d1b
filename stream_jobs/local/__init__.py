"""The embedded stack: Kafka, a Flink cluster and PostgreSQL as plain processes of this machine.

Everything comes from Python packages and Maven artifacts, so a machine needs no container engine, no root and no
Java. State lives under one folder (``HLINK_HOME``). Start at :class:`stream_jobs.local.stack.Stack`.
"""
