"""``hlink demo``: the flights of a year as a stream, features of them by a job that is defined over the REST API alone.

Read in this order: :mod:`features` (what is registered), :mod:`client` (the calls), :mod:`performance` (when what
happens). :mod:`data` are the flights, :mod:`stage` is what surrounds the service (topics, side tables, sinks),
:mod:`check` the same features by pandas.
"""
