"""Who may do what, and who did: tokens with roles, and the audit log.

``roles`` what a request needs, ``tokens`` who has which role, ``audit`` what was changed by whom, ``hosts`` against
pages that speak to a service on the reader's own machine.
"""
