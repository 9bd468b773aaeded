"""Whom to scrape next.

`document` and `delegated` are the two full examples; the chapter on the scheduler asks whichever a workspace names.
"""
