"""Retrieval heads (Wu et al. 2024, arXiv 2404.15574): found, scored and masked on any model that can be traced."""

from __future__ import annotations
