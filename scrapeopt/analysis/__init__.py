"What people look at: figures, charts, maps and the report."
