"""`trace`: run a model untouched while statistics, reads and edits take part; afterwards everything is as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from interp.errors import TraceError, UsageError
from interp.models.binding import Binding
from interp.models.device import input_device
from interp.tracing import attention, bypass, hooks, streamed
from interp.tracing.budget import BUDGET
from interp.tracing.chunks import obstacle, run_in_chunks
from interp.tracing.engines import known
from interp.tracing.hooks import SiteEdit, SiteTap
from interp.tracing.inputs import as_ids, entry_modules, unwrap
from interp.tracing.passes import PROBING, Forward, Pass, cache_name, cache_of, describe_call, open_forward
from interp.tracing.statistics import Accumulator, Statistic
from interp.tracing.taps import LayerTap, RowEdit

ATTENTION_SIDES = ("query", "key", "value")


class StatsView(Mapping[str, Any]):
    """Results of the last pass's statistics by name, computed when asked for."""

    def __init__(self, accumulators: Mapping[str, Accumulator]):
        self.accumulators = accumulators

    def __getitem__(self, name: str) -> Any:
        if name not in self.accumulators:
            raise UsageError(f"no statistic {name!r} in this trace; it has {sorted(self.accumulators)}")
        return self.accumulators[name].result()

    def __iter__(self) -> Iterator[str]:
        return iter(self.accumulators)

    def __len__(self) -> int:
        return len(self.accumulators)


class Trace:
    """An open (or finished) trace; see `trace`."""

    def __init__(
        self,
        model: Any,
        read: Sequence[str] = (),
        stats: Sequence[Statistic] = (),
        edit: Sequence[Any] = (),
        grad: bool = False,
        block_rows: int | None = None,
        engine: str | None = None,
    ):
        self.hf, self.sites = unwrap(model)
        self.stat_list, self.grad, self.block_rows = tuple(stats), grad, block_rows
        self.engine = None if engine is None else known(engine)
        names = [stat.name for stat in self.stat_list]
        if len(set(names)) < len(names):
            raise UsageError(f"statistics need different names, got {names}; give one name=...")
        if block_rows is not None and block_rows < 1:
            raise UsageError(f"block_rows={block_rows}; expected a positive number of rows")
        self.read = tuple(self.sites.expand([read] if isinstance(read, str) else read)) if read else ()
        self.row_edits: list[RowEdit] = [one for one in edit if hasattr(one, "rows")]
        self.site_edits: list[SiteEdit] = [one for one in edit if hasattr(one, "sites")]
        strange = [one for one in edit if not hasattr(one, "rows") and not hasattr(one, "sites")]
        if strange:
            raise UsageError(f"not an edit: {strange[0]!r}; edits have `sites` and `apply`, or `layers` and `rows`")
        for one in (*self.stat_list, *self.row_edits):
            beyond = sorted(layer for layer in one.layers or () if not 0 <= layer < self.sites.n_layers)
            if beyond:
                raise UsageError(f"{type(one).__name__}: layers {beyond}; the model has 0..{self.sites.n_layers - 1}")
        self.passes: list[Pass] = []
        self.forward: Forward | None = None
        self.depth = 0
        self.attention_path = "streamed"
        self.notes: list[str] = []
        self.engines: dict[int, str] = {}  # layer -> what took its statistics in the last call
        self.taps: list[SiteTap] = []
        self.guarded: list[Any] = []
        self.stack: ExitStack | None = None

    # -- what the user reads ------------------------------------------------------------------------------------------

    def run(
        self, input_ids: Any, attention_mask: Any = None, cache: Any = None, chunk: int | None = None, **kwargs: Any
    ) -> Any:
        """One forward call of the model; returns Hugging Face's output.

        Args:
            input_ids: ints [position] or [batch, position] (lists or tensors).
            attention_mask: [batch, position], 1 at real tokens.
            cache: the KV cache of an earlier call, to go on from (`interp.tracing.passes.cache_of` finds it).
            chunk: read the prompt so many tokens at a time, through a KV cache; same results, and only the cache grows
                with the prompt. None = in one piece, or as the memory plan of a run says where nothing is edited.
            kwargs: passed to the model (``use_cache`` is False unless given).
        """
        if self.stack is None:
            raise UsageError("this trace is closed; use it inside its `with` block")
        if kwargs.get("output_attentions"):
            raise UsageError("output_attentions is not available inside a trace; ask for stats=[Rows(...)] instead")
        device = input_device(self.hf)
        ids = as_ids(input_ids, device)
        if attention_mask is not None:
            attention_mask = torch.as_tensor(attention_mask, device=device)
            attention_mask = attention_mask[None] if attention_mask.dim() == 1 else attention_mask
            kwargs["attention_mask"] = attention_mask
        if cache is not None:
            kwargs = {cache_name(self.hf): cache, "use_cache": True, **kwargs}
        planned = BUDGET.get().chunk
        if (
            chunk is None
            and planned
            and planned < ids.shape[1]
            and not (self.row_edits or self.site_edits or self.grad)
        ):
            chunk = None if obstacle(self.hf, ids.shape[1], kwargs) else planned
        if chunk is None or chunk >= ids.shape[1]:
            return self.hf(input_ids=ids, **{"use_cache": False, **kwargs})
        output = run_in_chunks(self.hf, ids, chunk, kwargs, self.hf)
        if not kwargs.get("use_cache"):
            self.last().cache = None
        return output

    def __getitem__(self, site: str) -> Tensor:
        """The value at `site` in the last pass, [batch, position, ...]; decode steps are laid end to end."""
        if site not in self.read:
            raise UsageError(
                f"{site!r} was not asked for; this trace reads {list(self.read) or 'no sites'} (read=[...])"
            )
        parts = self.last().reads.get(site)
        if not parts:
            raise TraceError(f"{site} was never reached: the model did not run that module in the last pass")
        return parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].device) for part in parts], dim=1)

    @property
    def stats(self) -> StatsView:
        """Results of the last pass, by statistic name."""
        return StatsView(self.last().accumulators)

    def last(self) -> Pass:
        """The last pass.

        Raises:
            TraceError: the model has not run inside this trace.
        """
        if not self.passes:
            raise TraceError("nothing was traced yet: call t.run(...) or the model itself inside the `with` block")
        return self.passes[-1]

    # -- opening and closing ------------------------------------------------------------------------------------------

    def __enter__(self) -> Trace:
        if self.stack is not None:
            raise UsageError("this trace is open already; make a new one")
        with ExitStack() as stack:
            if not self.grad:
                stack.enter_context(torch.no_grad())
            bindings = {site: self.sites.binding(site) for site in self.read}
            edits: dict[str, list[SiteEdit]] = {}
            for one in self.site_edits:
                for site in self.sites.expand(one.sites):
                    edits.setdefault(site, []).append(one)
                    bindings.setdefault(site, self.sites.binding(site))
            # In forward order: of two sites on one module, the later has to see what an edit of the earlier did.
            ordered = [site for site in self.sites.names() if site in bindings]
            self.taps = [self.site_tap(bindings[site], edits.get(site, [])) for site in ordered]
            self.tap_attention(stack, [tap for tap in self.taps if tap.binding.where in ATTENTION_SIDES])
            for handle in hooks.attach(tap for tap in self.taps if tap.binding.where not in ATTENTION_SIDES):
                stack.callback(handle.remove)
            for module in entry_modules(self.hf, self.sites.block(0)):
                stack.callback(module.register_forward_pre_hook(self.begin_forward, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(self.end_forward, always_call=True).remove)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        stack, self.stack, self.forward, self.depth = self.stack, None, None, 0
        while self.guarded:
            vars(self.guarded.pop()).pop("reorder_cache", None)
        for one in self.passes:
            one.cache = None
        self.taps = []  # they hold this trace: in a circle, what was read would outlive it until a garbage search
        if stack is not None:
            stack.close()

    def site_tap(self, binding: Binding, edits: Sequence[SiteEdit]) -> SiteTap:
        """The tap of one site."""
        record = self.record if binding.site in self.read else None
        return SiteTap(binding, edits, record, lambda: self.last().frame, copy=bool(self.site_edits))

    def tap_attention(self, stack: ExitStack, taps: Sequence[SiteTap]) -> None:
        """Switch the attention over, if anything looks at it or changes it."""
        if not (self.stat_list or self.row_edits or taps):
            return
        n_layers = self.sites.n_layers
        modules = [self.sites.attention(layer) for layer in range(n_layers)]
        self.attention_path = bypass.attention_path(self.hf, modules)
        layer_taps = {}
        for layer, module in enumerate(modules):
            row_edits = [one for one in self.row_edits if one.layers is None or layer in one.layers]
            stats = [stat.name for stat in self.stat_list if stat.layers is None or layer in stat.layers]
            layer_taps[id(module)] = LayerTap(
                self, layer, row_edits, stats, [t for t in taps if t.binding.layer == layer]
            )
        stack.enter_context(streamed.tapped(layer_taps))
        if self.attention_path == "streamed":
            stack.enter_context(streamed.implementation(self.hf, modules, attention.NAME))
            return
        if taps:
            raise TraceError(f"{taps[0].binding.site}: {self.sites.family} does not hand its queries and keys out")
        self.notes.append(
            f"{self.sites.family} does not use transformers' attention interface: its own eager attention runs and its "
            "patterns are read as it forms them (same numbers, one layer's full pattern in memory at a time)"
        )
        stack.enter_context(streamed.implementation(self.hf, modules, "eager"))
        for module in modules:
            if len(streamed.TAPS[id(module)]) == 1:  # an outer trace's watch serves every tap
                for handle in bypass.ModuleWatch(module).attach():
                    stack.callback(handle.remove)

    # -- hooks --------------------------------------------------------------------------------------------------------

    def record(self, site: str, value: Tensor) -> None:
        """Keep a site's value in the pass under way."""
        self.last().reads.setdefault(site, []).append(value)

    def begin_forward(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Frame the outermost call that begins (a causal LM calls its base model, which may call a decoder)."""
        if PROBING.get():
            return
        self.depth += 1
        if self.depth > 1:
            return
        call = describe_call(module, args, kwargs)
        previous = self.passes[-1] if self.passes else None
        self.forward = open_forward(call, previous, self.sites.n_layers, self.stat_list)
        self.guard(self.forward.current.cache)
        if self.forward.current is not previous:
            self.passes[:] = [self.forward.current]  # only the last pass is kept: a trace is no archive
        for tap in self.taps:
            tap.visits = 0

    def end_forward(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Check that every layer's attention was seen exactly once, and that every edit was applied."""
        if PROBING.get():
            return
        self.depth = max(0, self.depth - 1)
        if self.depth:
            return
        forward, self.forward = self.forward, None
        if output is None or forward is None:
            self.passes.clear()  # the call failed: half a pass is no result
            return
        if forward.current.cache is None:
            forward.current.cache = cache_of(output)
            self.guard(forward.current.cache)
        missed = [tap.binding.site for tap in self.taps if tap.edits and not tap.visits]
        if missed:
            raise TraceError(
                f"edits at {', '.join(missed)} were never applied: the model did not run those modules; if its modules "
                "were replaced after loading, load it again"
            )
        wrong = {n: forward.calls.get(n, 0) for n in range(self.sites.n_layers) if forward.calls.get(n, 0) != 1}
        if wrong and (self.stat_list or self.row_edits):
            raise TraceError(
                f"attention calls seen by layer where one was expected: {wrong}; the numbers would be wrong"
            )

    def guard(self, cache: Any) -> None:
        """Have `cache` refuse to be reordered while the trace is open: what was folded could not follow."""
        if cache is None or any(cache is one for one in self.guarded):
            return

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise TraceError("beam search reorders the KV cache, which a trace cannot follow; use num_beams=1")

        cache.reorder_cache = refuse
        self.guarded.append(cache)


def trace(
    model: Any,
    read: Sequence[str] = (),
    stats: Sequence[Statistic] = (),
    edit: Sequence[Any] = (),
    grad: bool = False,
    block_rows: int | None = None,
    engine: str | None = None,
) -> Trace:
    """Open a trace: ``with interp.trace(model, read=[...], stats=[...], edit=[...]) as t: t.run(ids)``.

    Inside the block every call of the model (`t.run`, ``model.hf(...)``, ``model.hf.generate(...)``) is traced; the
    model object is bit-identical afterwards, also after an exception. A call that continues a KV cache continues the
    pass; any other begins a new one, and results are those of the last pass. Traces nest: edits of all of them apply.

    Args:
        model: a loaded `Model`, or a Hugging Face causal LM.
        read: site names or patterns (``blocks.*.hook_resid_post``), read after edits.
        stats: statistics over attention rows.
        edit: site edits and row edits, applied in order.
        grad: keep gradients (slower, more memory); False runs the block under `torch.no_grad`.
        block_rows: query rows held at once; None chooses by shape.
        engine: ``blocked`` forms rows in blocks; ``fused`` takes statistics from fused kernels wherever these can say
            them (`notes` tells where not); ``auto`` chooses by device, length and statistics; None = as the run says.

    Raises:
        SiteError: a site the model does not have.
        TraceError: something the tracer would get wrong (static caches, attention dropout, unknown attention keywords).
        UsageError: arguments of the wrong kind.
    """
    return Trace(model, read, stats, edit, grad, block_rows, engine)
