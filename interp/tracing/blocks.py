"""One block of attention rows, as statistics and row edits see it, and the frame of the pass it belongs to."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import TraceError


@dataclass
class PassFrame:
    """What is true of a whole pass: one prefill and the decode steps that continue its KV cache.

    Attributes:
        n_layers: blocks of the model.
        batch: sequences side by side.
        start: absolute position of the first query of the pass (0 unless the trace began after a cache was filled).
        seen: positions run so far, counted from the start of the sequence.
        token_ids: [batch, seen] ids from position `start` on; None when the model was fed embeddings.
        valid: [batch, seen] True at real tokens, False at padding; None when nothing is padded.
        kept: what row edits remember from one call of the pass to the next, under keys of their own.
    """

    n_layers: int
    batch: int
    start: int = 0
    seen: int = 0
    token_ids: Int[Tensor, "batch seen"] | None = None
    valid: Bool[Tensor, "batch seen"] | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def ids(self, device: torch.device) -> Int[Tensor, "batch seen"]:
        """Token ids from position 0 on.

        Raises:
            TraceError: the pass was fed embeddings, or started in the middle of a sequence.
        """
        if self.token_ids is None or self.start:
            raise TraceError(
                "this statistic compares token ids, and the model was fed inputs_embeds or a cache filled before the "
                "trace began; feed input_ids from the first token on, inside the trace"
            )
        return self.token_ids.to(device)

    def valid_on(self, device: torch.device) -> Bool[Tensor, "batch seen"] | None:
        """`valid` on `device`."""
        return None if self.valid is None else self.valid.to(device)


@dataclass
class RowBlock:
    """Exact post-softmax attention of some consecutive queries of one layer, float32.

    Attributes:
        layer: block index.
        rows: [batch, head, row, key]; rows sum to 1 (less with learned sinks; 0 where a padded query sees nothing).
            Keys outside [key_start, key_start + key) have no mass from these queries.
        query_start: absolute position of row 0.
        key_start: absolute position of column 0.
        frame: the pass this belongs to.
    """

    layer: int
    rows: Float[Tensor, "batch head row key"]
    query_start: int
    key_start: int
    frame: PassFrame

    @property
    def query_positions(self) -> Int[Tensor, " row"]:
        """Absolute positions of the rows."""
        return torch.arange(self.query_start, self.query_start + self.rows.shape[2], device=self.rows.device)

    @property
    def key_positions(self) -> Int[Tensor, " key"]:
        """Absolute positions of the columns."""
        return torch.arange(self.key_start, self.key_start + self.rows.shape[3], device=self.rows.device)

    @property
    def query_mask(self) -> Bool[Tensor, "batch row"] | None:
        """True at real tokens; None when nothing is padded."""
        valid = self.frame.valid_on(self.rows.device)
        return None if valid is None else valid[:, self.query_start : self.query_start + self.rows.shape[2]]

    @property
    def key_mask(self) -> Bool[Tensor, "batch key"] | None:
        """True at real tokens; None when nothing is padded."""
        valid = self.frame.valid_on(self.rows.device)
        return None if valid is None else valid[:, self.key_start : self.key_start + self.rows.shape[3]]
