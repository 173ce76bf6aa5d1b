"""What runs a graph: a process of its own, which knows neither the service nor its database.

``python -m app.visual.engine FOLDER`` reads the folder's plan (:mod:`app.visual.engine.plan`), runs each node in a
process of its own as soon as what it needs is there, and leaves in the folder what became of every node.
"""
