"Files and the database: settings, tables, snapshots, queries."
