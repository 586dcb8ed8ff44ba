"""Repair of a circuit: what the last token attends to in a few heads is replaced (see `interp.repairs.finder`)."""
