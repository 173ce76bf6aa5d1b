"""The runs of an experiment side by side: what differs between them, what came of it, and which is best.

``table`` and ``curves`` are pure, ``service`` reads runs and their figures, ``wire`` and ``routes`` answer.
"""
