"""Peak memory of a scan, part by part, from shapes: of the model, of the prompts, and of what the finder says it holds.

A scan peaks in one of three places, and every place has its parts:

1. Loading: the process, the weight files (mapped, so resident as far as they are read), and a second copy of the
   weights where they are not taken as they lie (another dtype, no safetensors).
2. Measuring: the process, the weights, the states that are kept, one layer's inside with its block of attention scores,
   and at the end all tokens' logits with what their loss takes.
3. Checking: the same under edits: nothing is kept, and prompts are read in one piece.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from interp.finders.base import Effort
from interp.tracing.budget import Budget, loss_rows

KEPT = 1 << 25
"""glibc gives tensors up to so many bytes (M_MMAP_THRESHOLD_MAX) no mapping of their own, so freed they stay."""
BLOCK_COPIES = 3
"""Of a block under edits: scores, rows edited, and what chooses between them."""


@dataclass(frozen=True)
class Shapes:
    """A model in numbers.

    Attributes:
        layers, heads, kv_heads, d_model, d_head: as in its config.
        d_mlp: widest inner width of a block's MLP, for one token: of a mixture, of the experts that a token is sent to.
        vocab: rows of the unembedding.
        width: bytes of a number in memory.
        parameters: how many, tied ones once.
        stored: bytes of the weight files.
        copied: whether loading makes a second copy beside the files' own.
        window: tokens of the sliding window of some layers; None = no layer has one.
        device: ``cpu``, ``cuda``, ...
    """

    layers: int
    heads: int
    kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    vocab: int
    width: int
    parameters: int
    stored: int
    copied: bool
    window: int | None
    device: str

    @property
    def weights(self) -> int:
        """Bytes of the weights."""
        return self.parameters * self.width


@dataclass(frozen=True)
class Parts:
    """Bytes at the peak, by what they are for: of measuring or of checking, whichever takes more.

    Attributes:
        process: interpreter, libraries, tokenizer (main memory; not counted on a GPU).
        weights, loading: the weights; and what loading them takes beside.
        states: what is kept of every layer, and numbers of every head and token.
        layer: inside of one layer, masks included.
        block: attention scores held at once.
        logits: of all tokens, and what their loss takes.
        caches: keys and values.
    """

    process: int
    weights: int
    loading: int
    states: int
    layer: int
    block: int
    logits: int
    caches: int

    @property
    def running(self) -> int:
        """Beside the process and the weights, once these are loaded."""
        return self.states + self.layer + self.block + self.logits + self.caches

    @property
    def peak(self) -> int:
        return self.process + self.weights + max(self.loading, self.running)

    def as_dict(self) -> dict[str, int]:
        """JSON-able, the peak among them."""
        return {**dataclasses.asdict(self), "peak": self.peak}

    def told(self) -> str:
        """The parts in words, largest first."""
        from interp.amounts import told

        place = ["loading"] if self.loading > self.running else ["states", "layer", "block", "logits", "caches"]
        sizes = {name: getattr(self, name) for name in ("process", "weights", *place)}
        names = {"block": "attention block", "loading": "a second copy while loading", "caches": "KV caches"}
        largest = sorted(sizes, key=lambda name: -sizes[name])
        return ", ".join(f"{names.get(name, name)} {told(sizes[name])}" for name in largest if sizes[name])


def parts(
    shapes: Shapes, effort: Effort, lengths: Sequence[int], budget: Budget, process: int, loaded: bool = False
) -> Parts:
    """The estimate.

    Args:
        lengths: tokens of every prompt, continuation included.
        process: bytes that the process holds before it loads anything.
        loaded: loading is over.
    """
    longest = max(lengths)
    if effort.at_once:  # of what runs side by side, every row may have a cache of what stands before
        fewer = max(longest, budget.side_by_side(effort.at_once))
        caches = effort.caches * fewer / effort.at_once if effort.bounded else effort.caches
        effort = dataclasses.replace(effort, at_once=fewer, caches=caches)
    measuring = _phase(shapes, effort, lengths, budget)
    if effort.edits:
        checking = _phase(shapes, dataclasses.replace(effort, reads=0.0), lengths, budget, edits=True)
        measuring = max(measuring, checking, key=lambda one: sum(one.values()))
    cpu = shapes.device == "cpu"
    loading = 0
    if not loaded and cpu:
        loading = shapes.stored if shapes.copied else max(0, shapes.stored - shapes.weights)
    return Parts(
        process=process if cpu else 0,
        weights=shapes.weights,
        loading=loading,
        caches=round(effort.caches * cache(shapes, longest)) + measuring.pop("cache"),
        **measuring,
    )


def cache(shapes: Shapes, length: int) -> int:
    """Keys and values of one sequence in every layer, as if none had a sliding window."""
    return 2 * shapes.layers * shapes.kv_heads * shapes.d_head * length * shapes.width


def _phase(
    shapes: Shapes, effort: Effort, lengths: Sequence[int], budget: Budget, edits: bool = False
) -> dict[str, int]:
    """States, layer, block and logits of one of the places 2 and 3."""
    longest, width = max(*lengths, effort.longest, 1), shapes.width
    chunk = None if edits or budget.chunk is None or budget.chunk >= longest else budget.chunk
    tokens = max(chunk or longest, effort.at_once)
    states = _states(shapes, effort, lengths, budget) * (1 if chunk is None else 2)  # chunks laid end to end, once more
    maps = 4 * shapes.layers * shapes.heads  # a number of every head and one token
    states += 3 * maps * longest + effort.maps * maps * sum(lengths)  # sums, their mean; what units keep
    logits = 0
    if effort.logits is None or effort.logits:
        counted = longest if effort.logits is None else min(longest, effort.logits)
        whole = counted * shapes.vocab * width
        # log-probabilities of a piece, and in half precision its logits in float32
        loss = min(counted, loss_rows(shapes.vocab)) * shapes.vocab * (4 if width == 4 else 8)
        logits = whole + max(loss, 0 if chunk is None else whole)
    at_once, ever = layer_bytes(shapes, tokens, longest)
    rows = rows_of(shapes, budget, longest, max(1, effort.at_once // longest))
    block = 4 * max(1, effort.at_once // longest) * shapes.heads * min(rows, tokens) * longest
    block *= BLOCK_COPIES if edits else 1
    kept = ever if shapes.device == "cpu" else 0
    if at_once + block > kept + logits:
        inside, logits = at_once, 0  # not there yet
    else:
        inside, block = kept, block if block <= KEPT and shapes.device == "cpu" else 0
    made = {"states": states, "layer": inside, "block": block, "logits": logits}
    return {**made, "cache": 0 if chunk is None else cache(shapes, longest)}


def _states(shapes: Shapes, effort: Effort, lengths: Sequence[int], budget: Budget) -> int:
    """Bytes of the states that a finder keeps at once."""
    one = effort.reads * shapes.layers * shapes.d_model * shapes.width
    if effort.bounded:  # batch after batch of at most `states` bytes, and four such kept for later
        return round(min(one * sum(lengths), 5 * budget.states))
    return round(one * max(*lengths, 1))


def layer_bytes(shapes: Shapes, tokens: int, keys: int) -> tuple[int, int]:
    """Bytes inside of one layer, for `tokens` new tokens and `keys` in all: (the most it has at once, what it leaves
    with the process when it is done: each of its tensors of up to `KEPT` bytes has had a place there)."""
    width, half = shapes.width, shapes.width < 4
    state, inner = tokens * shapes.d_model, tokens * shapes.heads * shapes.d_head
    shared = shapes.kv_heads * shapes.d_head
    outside = [state * width, state * width]  # the stream, and what a norm made of it
    norm = [state * 4, state * 4]  # which is taken in float32
    attention = [inner * width, inner * width]  # queries, before and after their rotation
    attention += [tokens * shared * width] * 3  # keys before and after it, values
    attention += [inner * 4, inner * width]  # queries scaled, in float32; the output
    attention += [keys * shared * 4] * 2 if half else []  # keys and values in float32
    mlp = [tokens * shapes.d_mlp * width] * 3  # gate, up, and their product
    masks = [tokens * keys] if shapes.window is not None and keys > shapes.window else []
    steps = (norm, attention, mlp)
    ever = [one for step in (outside, masks, *steps) for one in step if one <= KEPT]
    return sum(outside) + sum(masks) + max(map(sum, steps)), sum(ever)


def rows_of(shapes: Shapes, budget: Budget, keys: int, sequences: int = 1) -> int:
    """Query rows in a block (`interp.tracing.attention.rows_per_block`)."""
    return budget.rows(sequences * shapes.heads * keys)
