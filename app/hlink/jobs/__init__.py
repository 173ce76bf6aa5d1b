"""Jobs (published: 作业管理): definitions, planning, runs.

``models`` the tables, ``execution`` the settings' meaning, ``service`` the rules, ``submission`` the way to Flink,
``listing`` the list, ``overview`` and ``log`` what an operator sees, ``versions`` what a job was, ``preview`` what it
would give, ``batch`` many at once, ``routes`` the wire.
"""
