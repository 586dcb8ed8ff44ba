"""Exact attention statistics from fused kernels, which never form a row (DESIGN decision 4)."""
