"""自定义函数: functions that users upload, as jars or in Python, and call in their statements by name.

``classfile`` reads compiled Java, ``inspection`` judges what was uploaded, ``models`` the tables, ``service`` the
rules, ``deployed`` those of trained models' functions, ``routes`` the wire.
"""
