"""Ablation and calibration of heads, chosen by what the edit does and tested on other prompts (``interp ablate``)."""
