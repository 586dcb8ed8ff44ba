"""``python -m interp`` is the ``interp`` command."""

from __future__ import annotations

from interp.cli import main

main()
