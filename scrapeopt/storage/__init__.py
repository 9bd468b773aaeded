"""Files and the database: settings, tables, snapshots, queries.

The chapter on the workspace is the door to all of it.
"""
