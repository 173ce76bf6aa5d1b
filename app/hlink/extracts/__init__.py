"""Rows of a stored table, copied into a CSV file: what other families may ask of this one.

:mod:`~app.hlink.extracts.reaching` makes an order of what is to be copied (:mod:`~app.hlink.extracts.orders`): how the
table is reached, its credentials in memory only. :mod:`~app.hlink.extracts.process` has that done by a process of its
own (:mod:`~app.hlink.extracts.program`).
"""
