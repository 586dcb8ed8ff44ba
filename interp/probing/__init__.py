"""Linear probes: what can be read off activations linearly, with a control task, and whether the model uses it."""
