"""Statistics of attention, streamed.

An accumulator folds blocks of exact rows and never keeps them (except `Rows`, whose purpose that is). All results are
float32 on the CPU; queries that are padding count nowhere. Positions are indices into the sequence as fed, padding
included. Layers a statistic was not asked for are NaN in its result.
"""

from __future__ import annotations

from interp.tracing.statistics.base import Accumulator, Statistic
from interp.tracing.statistics.masses import MassOn, Offsets, TopMass
from interp.tracing.statistics.received import Received
from interp.tracing.statistics.rows import Entropy, Rows, RowSum, TopKey

__all__ = [
    "Accumulator",
    "Entropy",
    "MassOn",
    "Offsets",
    "Received",
    "RowSum",
    "Rows",
    "Statistic",
    "TopKey",
    "TopMass",
]
