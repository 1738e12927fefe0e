"""What Espressif's kernels of TFLM (esp-tflite-micro with esp-nn) take in the arena where that is not what the reference kernels take.

From esp-tflite-micro's micro/kernels/esp_nn and esp-nn's ..._get_scratch_size functions for the ESP32 (its portable optimised kernels):
convolutions ask for no scratch there, a softmax for a table of exponentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tinynas.cost.kernel import Needs
from tinynas.cost.kernels import KERNELS, needs, structure_of
from tinynas.cost.schema import FileOp, FileTensor

#: Structures that are larger than the reference kernels': with the number of a scratch buffer, and where it is aligned to 8 bytes.
_STRUCTURES: Mapping[str, int] = {"CONV_2D": 60, "DEPTHWISE_CONV_2D": 60, "SOFTMAX": 64}


def esp_structure(name: str) -> int:
    """Bytes of the structure that the kernel of operator ``name`` keeps."""
    return _STRUCTURES.get(name, structure_of(name, KERNELS[name], "espressif"))


def esp_needs(op: FileOp, tensors: Sequence[FileTensor]) -> Needs | None:
    """What the kernel of ``op`` takes on an ESP32; None where the table of kernels does not have it."""
    reference = needs(op, tensors, "espressif")
    if reference is None or op.kind not in _STRUCTURES:
        return reference
    scratch = reference.scratch
    if op.kind == "SOFTMAX" and op.inputs and op.outputs:
        source, out = tensors[op.inputs[0]], tensors[op.outputs[0]]
        if source.dtype == out.dtype == "int8" and len(source.shape) > 1:
            scratch = (*scratch, 4 * source.shape[1])
    return replace(reference, structure=esp_structure(op.kind), scratch=scratch)
