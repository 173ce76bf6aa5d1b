"""Models as ONNX, for programs that have neither scikit-learn nor Python.

This is what such a program can rely on; :mod:`app.visual.engine.portable.model` makes it so, and holds what onnxruntime
says against what the library says before a file is handed out.

**Inputs**, one a column, each of the shape ``[rows, 1]``. An input is called as its column is; where an output has that
name, ``_in`` is put behind it: ``hlink.inputs`` tells. Their types:

========== ======== ==========================================================================
type       tensor   what it takes
========== ======== ==========================================================================
``double`` double   numbers; what is missing is NaN
``int64``  int64    whole numbers, of which none may be missing
``bool``   bool     true and false, of which none may be missing
``string`` string   text; what is missing is the empty string
``time``   double   milliseconds since 1970-01-01 00:00 (UTC, or local where the column has no zone); missing is NaN
========== ======== ==========================================================================

**Outputs** by the task:

- ``classification``: ``label`` ``[rows]`` of the classes' own type (string, int64, double or bool); ``probabilities``
  ``[rows, classes]`` double, in the order of ``hlink.classes``, only where the estimator tells them.
- ``regression``: ``value`` ``[rows]`` double.
- ``clustering``: ``label`` ``[rows]`` int64; ``probabilities`` as above, of a Gaussian mixture.
- ``transformation``: ``features`` ``[rows, columns]`` double, in the order of ``hlink.features``.

**metadata_props**, all of them text; those marked * are JSON:

- ``hlink.version``: of this contract, ``1``
- ``hlink.task``; ``hlink.estimator``: the library's class
- ``hlink.inputs``*: ``[{"name", "column", "type", "dtype"}]``, ``dtype`` as pandas calls it
- ``hlink.outputs``*: ``[{"name", "type"}]``
- ``hlink.target``: the column that is predicted, empty where there is none
- ``hlink.classes``*: the classes, empty where there are none; ``hlink.features``*: of a transformation
- ``hlink.missing``*: whether it takes rows that lack values, and says of them what the library says
- ``hlink.job``, ``hlink.node``, ``hlink.port``, ``hlink.seed``: where it is from
- ``hlink.libraries``*: name -> version
- ``hlink.verified``*: ``{"rows", "of", "tolerance", "difference"}``: how many rows were compared, whether they are
  ``seen`` (of a table that the run read) or ``synthetic``, what was allowed, and the largest difference found

A category that the library would refuse (an encoder with ``handle_unknown="error"``) becomes NaN here, as a graph
cannot refuse a row.
"""

from __future__ import annotations


class NotConvertible(Exception):
    """There is no ONNX for it: the message names the estimator or the transformer, and why."""
