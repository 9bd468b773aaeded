"Whom to scrape next."

from .base import Policy
from .delegated import delegated
from .document import document

__all__ = ["Policy", "delegated", "document"]
