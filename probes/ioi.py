"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593): who is given something.

"When Mary and John met at the park, John gave a ring to" is to go on with Mary, the indirect object (IO), not with
John, the subject (S). ABBA names the IO first, BABA the S. Twins: ``flip`` puts the IO in the place of the second S,
so that the other name becomes right; ``abc`` puts three other names in place of all, so that neither is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from probes.base import Prompt
from probes.ioi_templates import TEMPLATES
from probes.pair_base import (
    DEFAULT_PROMPTS,
    TWINS,
    Draft,
    OwnPairs,
    build,
    enough,
    fill,
    one_token,
    requires_text,
    twin,
    words,
)
from probes.problem_base import Draw

if TYPE_CHECKING:
    from interp.models.model import Model

LEAST_NAMES = 20
LEAST_WORDS = 4


@dataclass(frozen=True)
class IOI(OwnPairs):
    """See the module.

    Attributes:
        corrupt: the twin that a prompt's pair holds; ``extra["twins"]`` has the ids of both.
        order: which of the names comes first; ``both`` in turn.
        templates: numbers of the sentences used, in `probes.ioi_templates.TEMPLATES` from 0; empty = all.
    """

    name: str = "ioi"
    help: str = "indirect object identification: who is given something, of two persons named (Wang et al. 2022)"
    corrupt: Literal["flip", "abc"] = "flip"
    order: Literal["both", "ABBA", "BABA"] = "both"
    templates: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(not 0 <= number < len(TEMPLATES) for number in self.templates):
            raise ValueError(f"templates={self.templates}: expected numbers from 0 to {len(TEMPLATES) - 1}")
        if len(set(self.templates)) < len(self.templates):
            raise ValueError(f"templates={self.templates}: expected different numbers")

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """`limit` pairs (default 64), templates and orders in turn; pair i depends on (seed, i) and these settings.

        With another `corrupt` the clean prompts stay the same. No name comes twice in a pair but S.

        Raises:
            UsageError: too few of the names are one token in this tokenizer, or a prompt is too long.
        """
        requires_text(model)
        ids = one_token(model, words("names"))
        enough(model, "first names", words("names"), list(ids), LEAST_NAMES)
        others = {}
        for slot, kind in (("place", "places"), ("gift", "gifts")):
            others[slot] = list(one_token(model, words(kind), "the"))
            enough(model, kind, words(kind), others[slot], LEAST_WORDS)
        return [
            self._one(model, index, ids, others, max_length, seed)
            for index in range(DEFAULT_PROMPTS if limit is None else limit)
        ]

    def _one(
        self,
        model: Model,
        index: int,
        ids: dict[str, int],
        others: dict[str, list[str]],
        max_length: int | None,
        seed: int,
    ) -> Prompt:
        from interp.circuits.roles import as_extra

        order, number = self._cell(index, seed)
        draw = Draw("ioi", seed, index)
        io, subject, *new = draw.some(list(ids), 5)
        values = {slot: draw.pick(options) for slot, options in others.items()}

        def told(io: str, subject: str, giver: str) -> tuple[str, dict[str, tuple[int, int]]]:
            first, second = (io, subject) if order == "ABBA" else (subject, io)
            return fill(TEMPLATES[number], {**values, "first": first, "second": second, "giver": giver})

        clean, spans = told(io, subject, subject)
        corrupted = {"flip": told(io, subject, io)[0], "abc": told(*new)[0]}
        first, second = ("IO", "S1") if order == "ABBA" else ("S1", "IO")
        template = f"{order}-{number:02}"
        draft = Draft(
            name=f"ioi-{index}",
            template=template,
            clean=clean,
            corrupt=corrupted[self.corrupt],
            answer=ids[io],
            wrong=(ids[subject],),
            spots={first: spans["first"], second: spans["second"], "S2": spans["giver"]},
            groups={"order": order, "template": template},
            facts={
                TWINS: {name: list(twin(model, text, name)) for name, text in corrupted.items()},
                "ioi": {"io": io, "s": subject, **values, "seed": seed},
                **as_extra(answer=["IO"], wrong=["S1", "S2"], first=["S1"], after_first=["S1+1"], repeat=["S2"]),
            },
        )
        return build(model, draft, max_length, behind={"S1+1": "S1"})

    def _cell(self, index: int, seed: int) -> tuple[str, int]:
        """Order and sentence of pair `index`: every round has each sentence in each order once, in an order drawn."""
        orders = ("ABBA", "BABA") if self.order == "both" else (self.order,)
        numbers = self.templates or tuple(range(len(TEMPLATES)))
        turn, at = divmod(index, len(orders) * len(numbers))
        shuffled = Draw("ioi sentences", seed, turn).some(numbers, len(numbers))
        return orders[at % len(orders)], shuffled[at // len(orders)]


probe = IOI()
