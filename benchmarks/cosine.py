"""The full training of tinynas until 0.15: scripts whose rows were trained by it go on with it, so that a page compares like with like."""

from __future__ import annotations

from typing import Any

#: Of a recipe: half a cosine down to 0, an average over two epochs (results/benchmarks/schedules.md says what took its place, and why).
COSINE: dict[str, Any] = {"schedule": "cosine", "ema": 2.0}
#: The same, said to a command.
COSINE_WORDS = tuple(word for key, value in COSINE.items() for word in ("--set", f"recipe.{key}={value}"))
