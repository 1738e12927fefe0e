"""Networks that read their images upside down.

A network trained with symmetric padding (k // 2 on both sides) keeps its function under TFLite's SAME padding, which puts the odd
pixel after, when all its kernels and its input are turned by 180 degrees. The file's metadata says so (``input_rotation``); the
evaluation, the check and the firmware turn the images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def rotate_images(images: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(N, H, W, C) or (H, W, C) images turned by 180 degrees."""
    return np.ascontiguousarray(np.flip(images, (-3, -2)))
