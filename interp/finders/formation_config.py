"""Settings of the formation finder, the quantities it compares, and the schema of its table."""

from __future__ import annotations

from dataclasses import dataclass

from interp.finders.formation_former import CARRIED
from interp.finders.sink_config import SinksConfig
from interp.findings import Column


@dataclass(frozen=True)
class FormationConfig(SinksConfig):
    """How formation is looked at; every setting of the sinks finder can be set as well."""

    matches: int = 4  # so many controls of a sink are averaged: the same token nearest to it, where it is no sink
    carried: float = CARRIED  # a block that found more than this share of the new state there already did not form it
    enough: int = 4  # a block needs so many sinks (and controls) for the PCA of its MLP inputs
    components: int = 4  # principal components that are fed through the MLP
    effective: float = 0.98  # |cosine| with the anchor's own MLP output above which a component is "effective"
    sweep: int = 20  # components are scaled by -sweep .. sweep - 1 (Wong et al. 2512.22213)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"matches": 1, "enough": 2, "components": 1, "sweep": 2}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: expected {least} or more")
        for name in ("carried", "effective"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0 to 1")


SITES = {
    "resid_pre": "hook_resid_pre",
    "attn_out": "hook_attn_out",
    "mlp_in": "mlp.hook_in",
    "gate": "mlp.hook_pre",
    "up": "mlp.hook_pre_linear",
    "activation": "mlp.hook_pre",  # act of it
    "product": "mlp.hook_post",
    "mlp_out": "mlp.hook_out",
    "mlp_added": "hook_mlp_out",
    "resid_post": "hook_resid_post",
}
"""Quantities compared with the anchor's at the same block, and the sites they are read at."""
DIRECTION = "direction"
QUANTITIES = (*SITES, DIRECTION)
"""`DIRECTION`: what the MLP adds against the anchor's state after the block."""
MEANING = {
    "resid_pre": "state before the block",
    "attn_out": "attention output",
    "mlp_in": "MLP input",
    "gate": "gate projection",
    "up": "up projection",
    "activation": "act(gate)",
    "product": "act(gate) * up",
    "mlp_out": "MLP output",
    "mlp_added": "MLP output after post-norm",
    "resid_post": "state after the block",
    DIRECTION: "MLP output against the anchor's state",
}
CONTROLS = ("same token", "same token, another prompt", "nearby token")


def _cosines() -> tuple[Column, ...]:
    made = []
    for name in QUANTITIES:
        what = MEANING[name]
        against = "the anchor's state after that block" if name == DIRECTION else "the anchor's in the same block"
        made.append(
            Column(
                f"cosine_{name}",
                "float64",
                what,
                f"Cosine of the sink's {what.split(' against')[0]} in its forming block with {against}; missing for "
                "the anchor itself and where the model has no such quantity.",
            )
        )
    return tuple(made)


COLUMNS = (
    Column("prompt", "string", "prompt", "Name of the prompt."),
    Column("position", "Int64", "position", "0-based position of the sink in the prompt."),
    Column("token_id", "Int64", "token id", "Id of the token in the vocabulary."),
    Column("token", "string", "token", "The token as text."),
    Column("kind", "string", "kind", "primary, secondary or transient, as the sinks finder calls it."),
    Column("anchor", "boolean", "anchor", "Whether this is the anchor, which the others are compared with."),
    Column("start_layer", "Int64", "start layer", "The forming block, 0-based: the first whose output is its state."),
    Column(
        "formed_by",
        "string",
        "formed by",
        "What wrote most of what the forming block added along the sink's own new state: its MLP, or, where all of "
        "attention wrote more, the head (layer.head) with the largest share. Missing when most of that state was there "
        "before (carried), or its parts do not add up.",
    ),
    Column("mlp_share", "float64", "MLP share", "Share of that gain which the block's MLP wrote."),
    Column("attention_share", "float64", "attention share", "Share of that gain which the block's attention wrote."),
    Column("top_head", "string", "top head", "The head (layer.head) of the block that wrote most of that gain."),
    Column("top_head_share", "float64", "top head's share", "Share of that gain which this head wrote."),
    Column(
        "carried",
        "float64",
        "carried",
        "Share of the new state's length that was there before the forming block, along the same direction.",
    ),
    *_cosines(),
    Column("control", "string", "control", f"What its controls are: {', '.join(CONTROLS)}; missing without any."),
    Column("controls", "Int64", "controls", "How many control tokens were averaged."),
    Column(
        "control_mlp_out",
        "float64",
        "control's MLP output",
        "The MLP output's cosine with the anchor's, for the controls.",
    ),
)
