"""Sweeps: models x finders x probes x settings, each a scan of its own, on one machine or many, into one folder."""
