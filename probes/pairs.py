"""Pairs of one's own (`probes.pairs_file`); without a file, agreement of subject and verb, as an example and a control.

"The keys to the cabinet" is to go on with "are", and its twin "The key to the cabinet" with "is".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import UsageError
from interp.resources import data_path
from probes import pairs_file
from probes.base import Prompt
from probes.pair_base import OwnPairs
from probes.problem_base import Draw

if TYPE_CHECKING:
    from interp.models.model import Model


@dataclass(frozen=True)
class Pairs(OwnPairs):
    """See the module."""

    name: str = "pairs"
    help: str = "your own pairs, with --prompts FILE.jsonl; without a file, agreement of subject and verb"

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """The shipped pairs, in an order drawn; those that do not line up in this tokenizer are left out.

        Raises:
            UsageError: none does.
        """
        listed = pairs_file.read(data_path("circuits", "agreement.jsonl"))
        made, why = [], None
        for one in Draw("pairs", seed).some(listed, len(listed)):
            try:
                made += pairs_file.prompts(model, [one], max_length=max_length)
            except UsageError as error:
                why = error
            if limit is not None and len(made) >= limit:
                break
        if not made and why is not None:
            raise UsageError(f"{model.name}: none of the shipped pairs serves; {why}") from why
        return made


probe = Pairs()
