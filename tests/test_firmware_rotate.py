"""Networks that read their images upside down."""

from __future__ import annotations

import numpy as np

from tinynas.export.rotate import rotate_images


def test_images_turn() -> None:
    images = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1)
    turned = rotate_images(images)
    assert (turned[1] == rotate_images(images[1])).all()
    assert turned[0, 0, 0, 0] == images[0, 2, 3, 0]
    assert (rotate_images(turned) == images).all()
    assert turned.flags["C_CONTIGUOUS"]
