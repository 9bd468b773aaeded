"""What people look at: figures, charts, maps and the report.

The dashboard shows them in JupyterLab, the commands `status` and `report` in a terminal and in a browser.
"""
