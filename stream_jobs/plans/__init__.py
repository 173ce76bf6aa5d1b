"""Compiled plans compared: which operator of one is which of another, and what becomes of its state.

Flink keeps an operator's state under a name that begins with the operator's number in the compiled plan. So the numbers
are ours to give (:mod:`~stream_jobs.plans.numbering`): an operator that holds the same thing keeps its number over
edits, and a number is never given to another. What is held is told from the plan alone
(:mod:`~stream_jobs.plans.meaning`).
"""
