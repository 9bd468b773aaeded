"One file a version of the state, for Alembic; `storage.tables.migrate` runs them in order."
