"""Circuits: what every head does to the answer of a task, measured exactly (Wang et al. 2022; Merullo et al. 2023)."""

from __future__ import annotations
