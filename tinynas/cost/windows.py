"""How often the loops of a kernel turn that has a window: by arithmetic, for one shape or for arrays of them."""

from __future__ import annotations

from typing import Any


# numpy is imported where there are arrays alone: the costs of one network do without.
def most(value: Any, other: Any) -> Any:
    """The larger one, element by element."""
    if isinstance(value, int) and isinstance(other, int):
        return max(value, other)
    import numpy as np

    return np.maximum(value, other)


def least(value: Any, other: Any) -> Any:
    """The smaller one, element by element."""
    return -most(-value, -other)


def taps(size: Any, out: Any, kernel: int, stride: int) -> Any:
    """Places of a window along one axis that lie on the map, over all ``out`` places of the window; sizes may be arrays.

    The window's padding is TFLite's: what SAME needs, which is nothing where the window fits (VALID).
    """
    before = most((out - 1) * stride + kernel - size, 0) // 2
    total: Any = 0
    for tap in range(kernel):
        first = most(-((tap - before) // stride), 0)
        last = least((size - 1 + before - tap) // stride, out - 1)
        total = total + most(last - first + 1, 0)
    return total


def whole_windows(size: Any, out: Any, kernel: int, stride: int) -> Any:
    """Places of a window along one axis, of ``out``, at which all of it lies on the map; padding as for :func:`taps`."""
    before = most((out - 1) * stride + kernel - size, 0) // 2
    first, last = -(-before // stride), least((size - kernel + before) // stride, out - 1)
    return most(last - first + 1, 0)
