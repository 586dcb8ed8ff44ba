"""How compressed a block's states are, from the spectrum of their matrix (arXiv 2510.06477; METHODS 1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compression:
    """Of a matrix X [token, dimension] with singular values sigma and p_i = sigma_i^2 / sum of sigma^2.

    Attributes:
        entropy: matrix entropy, minus the sum of p log p, in nats; 0 when all rows are multiples of one.
        entropy_share: entropy over its largest possible value, log(min(tokens, dimensions)); 0 for a single row.
        anisotropy: the largest p, sigma_1^2 / |X|_F^2; 1 when all rows are multiples of one.
    """

    entropy: float
    entropy_share: float
    anisotropy: float


def compression(states: Tensor) -> Compression:
    """Of states [token, dimension], not centred. The squared singular values are the eigenvalues of the smaller Gram
    matrix, in float64."""
    x = states.detach().to("cpu", torch.float64)
    gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    powers = torch.linalg.eigvalsh(gram).clamp_min(0)
    p = powers / powers.sum().clamp_min(torch.finfo(torch.float64).tiny)
    entropy = float(torch.special.entr(p).sum())
    most = float(torch.log(torch.tensor(len(p), dtype=torch.float64)))
    return Compression(entropy, entropy / most if most > 0 else 0.0, float(p[-1]))


def mean_cosine(states: Tensor) -> float:
    """Mean cosine over all pairs of different tokens of states [token, dimension]; NaN for a single token. Near 1 the
    tokens are mixed into one direction."""
    unit = torch.nn.functional.normalize(states.detach().to("cpu", torch.float64), dim=-1)
    n = unit.shape[0]
    own = (unit * unit).sum()
    return float(((unit.sum(dim=0) ** 2).sum() - own) / (n * (n - 1))) if n > 1 else float("nan")
