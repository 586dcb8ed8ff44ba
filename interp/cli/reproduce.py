"""``interp reproduce``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from interp.cli import options

CHECKS_FAILED = 3


def _papers(incomplete: str) -> list[str]:
    from interp.registry import PAPERS

    return [name for name in PAPERS.names() if name.startswith(incomplete)]


def reproduce(
    paper: Annotated[str, typer.Argument(help="A paper (interp ls papers).", autocompletion=_papers)],
    model: options.ModelName = "smollm2-135m",
    text: options.Text = None,
    text_file: options.TextFile = None,
    prompts: options.Prompts = None,
    probe: options.Probe = None,
    probe_set: options.ProbeSet = None,
    max_length: options.MaxLength = None,
    limit: options.Limit = None,
    generate: options.Generate = None,
    out: options.Out = None,
    set_: options.Set = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    fresh: options.Fresh = False,
    device: options.Device = "auto",
    dtype: options.Dtype = None,
    device_map: options.DeviceMap = None,
    bos: options.BosPolicy = options.Bos.auto,
    chat: options.Chat = False,
    memory: options.Memory = None,
    engine: options.EngineName = options.Engine.auto,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustRemoteCode = False,
    debug: options.Debug = False,
) -> None:
    """Put a paper's claims to the test on a model: published beside measured, and a verdict for each.

    The same command again goes on where a killed one was. Ends with 3 when the run's own checks fail.
    """
    from interp.cli.output import print_json, warn
    from interp.papers.run import reproduce as run_reproduce
    from interp.runs.store import plain

    try:
        result = run_reproduce(
            paper,
            model,
            texts=options.texts_given(text),
            text_files=text_file,
            prompts=prompts,
            probe=probe,
            probe_set=options.probe_set_given(probe_set),
            max_length=max_length,
            limit=limit,
            generate=generate,
            out=out,
            config=options.settings_given(set_) or None,
            seed=seed,
            fresh=fresh,
            progress=not quiet,
            device=device,
            dtype=dtype,
            device_map=device_map,
            bos=bos.value,
            chat=chat,
            memory=memory,
            engine=engine.value,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
    except KeyboardInterrupt:
        warn("interrupted; resume with the same command")
        raise typer.Exit(130) from None
    summary = result.findings.summary
    if json:
        print_json({"claims": plain(result.findings.records()), "checks": summary["checks"]})
    else:
        _print(result)
    if not summary["passed"]:
        failed = ", ".join(check["name"] for check in summary["checks"] if not check["passed"])
        warn(f"the run's own checks failed: {failed}")
        raise typer.Exit(CHECKS_FAILED)


def _print(result: Any) -> None:
    from interp.cli.output import say

    findings = result.findings
    say(findings.verdict)
    for row in findings.records():
        say()
        say(f"{row['verdict'].upper()}: {row['claim']}. {row['statement']}")
        say(f"  published: {row['published']}")
        say(f"  measured:  {row['measured']}")
        say(f"  rule:      {row['rule']}")
        if row["why"]:
            say(f"  because:   {row['why']}")
    say()
    for check in findings.summary["checks"]:
        say(f"own check {'passed' if check['passed'] else 'FAILED'}: {check['name']}: {check['told']}")
    say(f"position 0: {result.provenance.get('position0')}")
    for caveat in findings.caveats:
        say(f"caveat: {caveat}")
    say(f"report: {result.folder / 'report.html'}")
