"""Whom to scrape next.

`document` and `delegated` are the two full examples; the chapter on the scheduler asks whichever a workspace names.
"""
from .base import Policy
from .delegated import delegated
from .document import document

__all__ = ["Policy", "delegated", "document"]
