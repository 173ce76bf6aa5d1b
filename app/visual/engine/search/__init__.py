"""The search for the best pipeline: :mod:`app.visual.engine.steps.searching` is its step.

A pipeline is a graph of our own components from the start (:mod:`.pipelines`), and every trial is carried out by the
steps that graphs run: what wins is drawn as it is, and comes to the same figures.
"""
