"""Tensors in double precision, worked by hand and compared closely."""

from typing import Any

import torch
from torch import Tensor


def doubles(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def same(found: Tensor, expected: Any, within: float = 1e-9) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=found.dtype), atol=within, rtol=0, equal_nan=True)
