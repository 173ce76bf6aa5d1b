"""Components of somebody's own: Python files with a declared interface, run by the engine and never by the service.

``models`` the table, ``declaration`` what a file says of itself, ``service`` the rules, ``wire`` and ``routes``.
"""
