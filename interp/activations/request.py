"""What a call of capture asks for, checked before a model is loaded, and held against what a store holds already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.activations.index import POSITIONS, Index
from interp.amounts import parse, told
from interp.errors import UsageError
from interp.registry import unknown
from interp.runs import sources
from interp.runs.plan import LOAD_OPTIONS, MAX_LENGTH, check_bounds
from probes.base import Prompt

DEFAULT_SITES = ("blocks.*.hook_resid_post",)
STORE_DTYPES = ("as-is", "float16", "bfloat16", "float32")
SHARD_SIZE = "256MB"
LARGEST = 64 * 10**9
"""A shard is held in memory; larger ones would be a mistake."""


@dataclass(frozen=True)
class Wanted:
    """A checked request.

    Attributes:
        patterns: sites; None = the store's, or of a new one `DEFAULT_SITES`.
        positions: None = the store's, or of a new one ``all``.
        dtype_store: None = the store's, or of a new one ``as-is``.
        source: where prompts come from.
    """

    patterns: tuple[str, ...] | None
    positions: str | None
    dtype_store: str | None
    shard_bytes: int
    source: sources.Source
    limit: int | None
    max_length: int
    seed: int
    load_options: dict[str, Any]

    def prompts(self, model: Any) -> tuple[Prompt, ...]:
        """The prompts for a loaded model, no longer than it takes."""
        most = self.max_length if model.max_positions is None else min(self.max_length, model.max_positions)
        return self.source.prompts(model, self.limit, most, self.seed)


def wanted(
    sites: str | Sequence[str] | None = None,
    *,
    texts: Any = None,
    text_files: Any = None,
    prompts: Any = None,
    probe: str | None = None,
    probe_set: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    positions: str | None = None,
    dtype_store: str | None = None,
    shard_size: str | int = SHARD_SIZE,
    **load_options: Any,
) -> Wanted:
    """Check everything that can be checked without a model; see `interp.activations.run.capture`.

    Raises:
        UsageError: whatever is wrong, naming the argument, its value and what would do.
    """
    check_bounds(limit, max_length, seed)
    if positions is not None and positions not in POSITIONS:
        raise UsageError(f"--positions {positions!r}: expected {' or '.join(POSITIONS)}")
    if dtype_store is not None and dtype_store not in STORE_DTYPES:
        raise UsageError(f"--dtype-store {dtype_store!r}: expected one of {', '.join(STORE_DTYPES)}")
    for name in load_options:
        if name not in LOAD_OPTIONS:
            raise UsageError(unknown("argument of capture", name, list(LOAD_OPTIONS)))
    listed = [sites] if isinstance(sites, str) else None if sites is None else list(sites)
    patterns = None if listed is None else tuple(one.strip() for each in listed for one in each.split(","))
    if patterns is not None and not all(patterns):
        raise UsageError(f"--sites {','.join(listed or [])!r}: expected names or patterns such as {DEFAULT_SITES[0]!r}")
    return Wanted(
        patterns=patterns or None,
        positions=positions,
        dtype_store=dtype_store,
        shard_bytes=size_of(shard_size),
        source=sources.choose(texts, text_files, prompts, probe, probe_set=probe_set),
        limit=limit,
        max_length=MAX_LENGTH if max_length is None else max_length,
        seed=seed,
        load_options=load_options,
    )


def size_of(given: str | int) -> int:
    """Bytes of ``256MB``, ``1.5GiB`` or a plain number.

    Raises:
        UsageError: it is no size, or none a shard can have.
    """
    size = parse(given, "--shard-size")
    if size is None or size > LARGEST:
        raise UsageError(f"--shard-size {given}: expected {told(LARGEST)} at the most, such as {SHARD_SIZE}")
    return size


def settle(asked: Wanted, index: Index | None, site_names: Sequence[str] | None = None) -> tuple[str, str]:
    """(positions, dtype_store) in effect, the store's own where nothing was asked for.

    Args:
        site_names: what the patterns stand for in this model, once it is known.

    Raises:
        UsageError: the store was made otherwise; names the difference.
    """
    if index is None:
        return asked.positions or "all", asked.dtype_store or "as-is"
    if asked.positions not in (None, index.positions):
        raise UsageError(
            f"the store holds {index.positions} positions of its prompts, asked for were {asked.positions}; {ELSEWHERE}"
        )
    kept = str(index.calls[0].get("dtype_store", "as-is")) if index.calls else "as-is"
    if asked.dtype_store not in (None, kept):
        raise UsageError(
            f"the store was made with --dtype-store {kept}, asked for was {asked.dtype_store}; {ELSEWHERE}"
        )
    if site_names is not None and asked.patterns is not None:
        theirs = [spec.site for spec in index.sites]
        more, fewer = (
            [site for site in these if site not in those]
            for these, those in ((site_names, theirs), (theirs, site_names))
        )
        if more or fewer:
            told = [f"{len(more)} sites more ({_some(more)})"] if more else []
            told += [f"{len(fewer)} sites fewer ({_some(fewer)})"] if fewer else []
            raise UsageError(
                f"asked for were {' and '.join(told)} than the store's {len(theirs)} sites, which are settled when it "
                f"is made; leave out --sites, or {ELSEWHERE}"
            )
    return index.positions, kept


ELSEWHERE = "capture into another --out"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def same_model(index: Index | None, identity: Mapping[str, Any]) -> None:
    """`UsageError` when a store holds activations of another model, dtype or kind of device; names the difference."""
    if index is None:
        return
    differing = [
        f"other {name}: {str(index.identity.get(name))[:16]} there, {str(identity.get(name))[:16]} here"
        for name in {**index.identity, **identity}
        if index.identity.get(name) != identity.get(name)
    ]
    if differing:
        raise UsageError(f"the store holds activations of {index.model_name!r} ({'; '.join(differing)}); {ELSEWHERE}")
