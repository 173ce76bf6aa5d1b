"""Programs in jars (published: 文件管理): kept here, brought to the clusters that run them.

``models`` the table, ``archive`` what is in a jar, ``service`` the rules, ``routes`` the wire.
"""
