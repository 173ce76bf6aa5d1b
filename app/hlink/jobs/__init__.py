"""Jobs (published: 作业管理): definitions, planning, runs.

``models`` the tables, ``execution`` the settings' meaning, ``service`` the rules, ``submission`` the way to Flink,
``overview`` what an operator sees, ``routes`` the wire.
"""
