"""Head classes: previous-token, duplicate-token, induction, copy, sink and retrieval scores of every head."""

from __future__ import annotations
