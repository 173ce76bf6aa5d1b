"""The resident planner: a warm interpreter with Flink's own planner in it, in a process of its own.

``client`` asks, ``worker`` answers, ``java/`` is the worker's part inside the JVM, ``plan`` takes a job through it.
"""
