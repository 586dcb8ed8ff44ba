"""Colored Objects (after Merullo et al. 2023, arXiv 2310.08744): which colour has the object that is asked for?

Three objects, each of its own colour, lie on a surface; one is asked for. A worked example of the same form stands
before. Colours are lower-case in the list and capitalised in the answer; none, and no object, comes twice. The twin
asks for another of the three objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from probes.base import Prompt
from probes.pair_base import (
    DEFAULT_PROMPTS,
    Draft,
    OwnPairs,
    build,
    enough,
    fill,
    one_token,
    requires_text,
    words,
)
from probes.problem_base import Draw

if TYPE_CHECKING:
    from interp.models.model import Model

SURFACES = ("table", "desk", "floor")
OPENINGS = ("there is", "you see", "I see")
SHOT = (
    "Q: On the {surface}, {opening} a {color1} {object1}, a {color2} {object2}, and a {color3} {object3}. "
    "What color is the {asked}?\nA:"
)
OBJECTS = 3
"""Objects a shot."""
LEAST_COLOURS, LEAST_OBJECTS = 8, 8


@dataclass(frozen=True)
class ColoredObjects(OwnPairs):
    """See the module."""

    name: str = "colored-objects"
    help: str = "which colour has the object asked for, of three, after a worked example (Merullo et al. 2023)"

    def prompts(
        self, model: Model, *, limit: int | None = None, max_length: int | None = None, seed: int = 0
    ) -> list[Prompt]:
        """`limit` pairs (default 64); pair i depends on (seed, i).

        The slot asked for, the slot the twin asks for, and the slot of the example are balanced; surfaces and openings
        take turns.

        Raises:
            UsageError: too few words are one token in this tokenizer, or a prompt is too long.
        """
        requires_text(model)
        lower = one_token(model, words("colours"), "a")
        upper = one_token(model, [colour.capitalize() for colour in lower], "A:")
        colours = {colour: upper[colour.capitalize()] for colour in lower if colour.capitalize() in upper}
        enough(model, "colours (in small letters, and with a capital)", words("colours"), list(colours), LEAST_COLOURS)
        objects = list(one_token(model, words("things"), "the"))
        enough(model, "objects", words("things"), objects, LEAST_OBJECTS)
        return [
            _one(model, index, colours, objects, max_length, seed)
            for index in range(DEFAULT_PROMPTS if limit is None else limit)
        ]


def _one(
    model: Model, index: int, ids: dict[str, int], objects: list[str], max_length: int | None, seed: int
) -> Prompt:
    from interp.circuits.roles import as_extra

    turn, at = divmod(index, OBJECTS * (OBJECTS - 1) * OBJECTS)
    cells = [(a, b, c) for a in range(OBJECTS) for b in range(OBJECTS) if a != b for c in range(OBJECTS)]
    asked, other, example = Draw("colored-objects slots", seed, turn).some(cells, len(cells))[at]
    draw = Draw("colored-objects", seed, index)
    colours, things = draw.some(list(ids), 2 * OBJECTS), draw.some(objects, 2 * OBJECTS)
    surface, opening = SURFACES[index % len(SURFACES)], OPENINGS[index // len(SURFACES) % len(OPENINGS)]
    template = f"{surface}, {opening}"
    where = {"surface": surface, "opening": opening}
    shots = [
        {**where, **_listed(colours[:OBJECTS], things[:OBJECTS]), "asked": things[example]},
        {**where, **_listed(colours[OBJECTS:], things[OBJECTS:]), "asked": things[OBJECTS + asked]},
    ]
    first, first_spans = fill(SHOT, shots[0])
    before = f"{first} {colours[example].capitalize()}\n\n"
    question, spans = fill(SHOT, shots[1])
    other_question, _ = fill(SHOT, {**shots[1], "asked": things[OBJECTS + other]})
    spots = {f"example {slot}": span for slot, span in first_spans.items() if slot not in where}
    spots["example answer"] = (len(first) + 1, len(before) - 2)
    spots |= {slot: (a + len(before), b + len(before)) for slot, (a, b) in spans.items() if slot not in where}
    mine = colours[OBJECTS:]
    draft = Draft(
        name=f"colored-objects-{index}",
        template=template,
        clean=before + question,
        corrupt=before + other_question,
        answer=ids[mine[asked]],
        wrong=tuple(ids[colour] for slot, colour in enumerate(mine) if slot != asked),
        spots=spots,
        groups={"slot": str(asked + 1), "template": template},
        facts={
            "choices": list(ids.values()),
            "colored_objects": {
                "colours": mine,
                "objects": things[OBJECTS:],
                "asked": asked,
                "other": other,
                "example": example,
                "seed": seed,
            },
            **as_extra(
                answer=[f"color{asked + 1}"],
                wrong=[f"color{slot + 1}" for slot in range(OBJECTS) if slot != asked],
                first=[f"object{asked + 1}"],
                after_first=["object+1"],
                repeat=["asked"],
            ),
        },
    )
    behind = {"object+1": f"object{asked + 1}"}
    return build(model, draft, max_length, behind=behind)


def _listed(colours: list[str], things: list[str]) -> dict[str, Any]:
    slots = {f"color{slot}": colour for slot, colour in enumerate(colours, 1)}
    return slots | {f"object{slot}": thing for slot, thing in enumerate(things, 1)}


probe = ColoredObjects()
