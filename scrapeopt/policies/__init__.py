"""Who judges what was scraped, whom to scrape next, and what to serve.

`document` and `delegated` are the two full examples of a `Policy`; `find_policy` finds them, and others, by name.
"""
from .base import Policy
from .delegated import delegated
from .document import document
from .registry import find_policy

__all__ = ["Policy", "delegated", "document", "find_policy"]
