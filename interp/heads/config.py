"""Settings of the heads finder, the classes, and the schema of its table."""

from __future__ import annotations

from dataclasses import dataclass

from interp.findings import Column

KINDS = ("previous", "duplicate", "induction", "copy", "sink", "retrieval")
"""The scores, each of which has a class of its name."""
BY_IMPORTANCE = ("retrieval", "induction", "previous", "duplicate", "sink", "copy")
"""A head of several classes is shown as the first of these; copying comes last: a head that rests hardly writes what it
would copy."""
BOTH, NONE = "retrieval + induction", "none"
SHOWN = (NONE, "copy", "sink", "duplicate", "previous", "induction", "retrieval", BOTH)
"""What a head can be shown as, in the order of the map's legend."""
NAMES = {
    "previous": "previous-token head",
    "duplicate": "duplicate-token head",
    "induction": "induction head",
    "copy": "copying head",
    "sink": "sinking head",
    "retrieval": "retrieval head",
}
TESTED = "induction"
"""The class that the verdict of the check rests on."""


@dataclass(frozen=True)
class HeadsConfig:
    """What is measured, and from which score on a head belongs to a class."""

    length: int = 64  # tokens of the random segment, which is given twice
    previous: float = 0.4  # least share of attention on the token before (the 0.4 of the ARENA TransformerLens course)
    duplicate: float = 0.4  # least share on earlier copies of the token (same source)
    induction: float = 0.4  # least share on the tokens behind those copies (same source)
    copy: float = 0.5  # least copy score: the attended token is raised above three in four others (our choice)
    sink: float = 0.8  # least share on the first position or other anchor (Barbero et al. 2025, arXiv 2504.02732)
    retrieval: float = 0.1  # least retrieval score (Wu et al. 2024, arXiv 2404.15574, section 2)
    min_recall: float = 0.5  # a needle counts when ROUGE-1 recall of its answer is above it (same section)
    checked: int = 16  # at most so many prompts, each with a fresh random sequence, judge what ablation does
    controls: int = 1  # draws, a sequence, of as many random heads, of the same layers where these have enough
    seed: int = 0  # of those draws and of the bootstrap

    def __post_init__(self) -> None:
        for name in (*KINDS, "min_recall"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected a number from 0 to 1")
        for name, bound in {"length": 2, "checked": 0, "controls": 1, "seed": 0}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)}: expected {bound} or more")


_RANDOM = "on a random segment given twice, mean over the sequences"
_HELP = {
    "previous": f"Share of attention on the token before, {_RANDOM}.",
    "duplicate": f"Share of attention on earlier copies of the own token, {_RANDOM}; second copy only.",
    "induction": "Share of attention on the tokens behind earlier copies of the own token, "
    f"{_RANDOM}; second copy only.",
    "copy": "How far what the head writes raises the logit of the token it attends to above those of the segment's "
    f"other tokens: 1 most of all, 0 by chance, -1 least, {_RANDOM}; second copy only.",
    "sink": "Mean attention on the anchor (the position that receives most, as a rule the first) from the queries at "
    "and after it, mean over the prompts.",
    "retrieval": "Share of a needle's answer that the head copied while the model wrote it (Wu et al. 2024), mean over "
    "the needle prompts that were answered; missing without such prompts.",
}
COLUMNS = (
    Column("layer", "Int64", "layer", "Layer, counted from 0."),
    Column("head", "Int64", "head", "Query head in its layer, counted from 0."),
    Column("class", "string", "class", f"The first that applies of: {', '.join((BOTH, *BY_IMPORTANCE, NONE))}."),
    Column("classes", "string", "all classes", "Every class whose score reaches its threshold; empty = none."),
    *(Column(kind, "float64", kind, _HELP[kind]) for kind in KINDS),
    Column(
        "qr_score",
        "float64",
        "QR score",
        "Attention from the question to the needle's sentence less the same from the question N/A, mean over the "
        "answered needle prompts (QRHead, arXiv 2506.09944).",
    ),
    *(
        Column(f"{kind}_{end}", "float64", f"{kind}, {end}", f"{end.title()} end of the 95 % bootstrap interval.")
        for kind in KINDS
        for end in ("low", "high")
    ),
)
