"""The evidence for a head's class in words."""

from __future__ import annotations

from typing import Any

PLACES = {
    "answer": "the answer",
    "wrong": "wrong tokens",
    "first": "the first occurrence",
    "after_first": "the token behind the first occurrence",
    "repeat": "the repeated token",
    "end": "the last token",
    "elsewhere": "tokens without a name",
}
"""Names of positions in words."""
READ = {"logits": "the logits", "q": "queries", "k": "keys", "v": "values"}


def sentence(told: dict[str, Any]) -> str:
    """The evidence of one head (`interp.circuits.classes.Told`), without a full stop."""
    effect = "" if told["effect"] is None else f" ({told['effect']:+.1%} of the gap)"
    parts = [f"found by its effect on {READ[told['side']]}{effect}"]
    if told["looks_at"] is not None:
        from_, at = (PLACES.get(told[key], told[key]) for key in ("looks_from", "looks_at"))
        parts.append(f"from {from_}, {told['attention']:.0%} of its attention goes to {at}")
    if told["looks_from"] == "end" and told["copying"] is not None:
        verb = "raises" if told["copying"] > 0 else "lowers"
        parts.append(f"it {verb} what it looks at most (copying {told['copying']:+.2f})")
    if told["side"] == "logits" and told["dla"] is not None:
        parts.append(f"it adds {told['dla']:+.2f} logits to the difference")
    if told["class"] == "backup mover":
        parts.append(f"{told['gained']:+.2f} more without the movers")
    return "; ".join(parts)
