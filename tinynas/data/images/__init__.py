"""The wing for images: what they are, how they are read, fitted, changed while training, prepared and drawn.

Rooms, lowest first: ``decode fit changes | signal (what the shared files need to know) | folder hub prepared synthetic (openers) |
shards vww wake_vision (``data prepare``) | augment strong gpu (while training) | sheet (samples as a picture)``.
"""

from __future__ import annotations

from tinynas.data.images.decode import decode, encode_jpeg
from tinynas.data.images.fit import resize

__all__ = ["decode", "encode_jpeg", "resize"]
