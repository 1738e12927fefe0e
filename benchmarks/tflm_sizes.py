"""Sizes of TFLM's structures on a Cortex-M4 as the compiler lays them out, held against the table of tinynas.cost.kernels.

Compiles a line for each structure of a TFLM source tree with arm-none-eabi-g++ and reads the sizes from the object files; nothing is
run. Fails where the table is smaller than the compiler says, and lists where they differ: the table holds the largest of the releases
that it was held against. The sizes on a 64-bit host are held against tflite-micro's wheel itself, by tests/test_kernels.py. Does not
show structures of kernels other than the reference ones.

    python benchmarks/tflm_sizes.py TFLM_TREE
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tinynas.cost.kernels import KERNELS

COMPILER = (
    "arm-none-eabi-g++",
    "-mcpu=cortex-m4",
    "-mthumb",
    "-fno-rtti",
    "-fno-exceptions",
    "-std=c++17",
    "-w",
    "-DTF_LITE_STATIC_MEMORY",
)
INCLUDES = (".", "third_party/flatbuffers/include", "third_party/gemmlowp", "third_party/ruy", "third_party/kissfft")
#: Structure of the parsed options, by operator.
OPTIONS = {
    "ADD": "Add",
    "ARG_MAX": "ArgMax",
    "ARG_MIN": "ArgMin",
    "AVERAGE_POOL_2D": "Pool",
    "BATCH_MATMUL": "BatchMatMul",
    "CALL_ONCE": "CallOnce",
    "CAST": "Cast",
    "CONCATENATION": "Concatenation",
    "CONV_2D": "Conv",
    "CUMSUM": "Cumsum",
    "DEPTH_TO_SPACE": "DepthToSpace",
    "DEPTHWISE_CONV_2D": "DepthwiseConv",
    "DIV": "Div",
    "FULLY_CONNECTED": "FullyConnected",
    "GATHER": "Gather",
    "IF": "If",
    "L2_NORMALIZATION": "L2Norm",
    "L2_POOL_2D": "Pool",
    "LEAKY_RELU": "LeakyRelu",
    "MAX_POOL_2D": "Pool",
    "MEAN": "Reducer",
    "MIRROR_PAD": "MirrorPadding",
    "MUL": "Mul",
    "PACK": "Pack",
    "REDUCE_ALL": "Reducer",
    "REDUCE_MAX": "Reducer",
    "REDUCE_MIN": "Reducer",
    "RESHAPE": "Reshape",
    "RESIZE_BILINEAR": "ResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "SHAPE": "Shape",
    "SOFTMAX": "Softmax",
    "SPACE_TO_DEPTH": "SpaceToDepth",
    "SPLIT": "Split",
    "SPLIT_V": "SplitV",
    "SQUEEZE": "Squeeze",
    "STRIDED_SLICE": "StridedSlice",
    "SUB": "Sub",
    "SUM": "Reducer",
    "SVDF": "SVDF",
    "TRANSPOSE_CONV": "TransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
    "UNPACK": "Unpack",
    "VAR_HANDLE": "VarHandle",
    "WHILE": "While",
}
#: Structure that the kernel keeps, by operator: (file under kernels/, type in namespace tflite).
STRUCTURES = {
    "CONV_2D": ("conv.h", "OpDataConv"),
    "DEPTHWISE_CONV_2D": ("conv.h", "OpDataConv"),
    "FULLY_CONNECTED": ("fully_connected.h", "OpDataFullyConnected"),
    "TRANSPOSE_CONV": ("transpose_conv.cc", "OpData"),
    "BATCH_MATMUL": ("batch_matmul.h", "OpDataBatchMatmul"),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("lstm_shared.h", "OpDataLSTM"),
    "SVDF": ("svdf.h", "OpDataSvdf"),
    "ADD": ("add.h", "OpDataAdd"),
    "SUB": ("sub.h", "OpDataSub"),
    "MUL": ("mul.h", "OpDataMul"),
    "DIV": ("div.cc", "OpDataDiv"),
    "SQUARED_DIFFERENCE": ("squared_difference.cc", "OpData"),
    "EQUAL": ("comparisons.cc", "OpData"),
    "ABS": ("elementwise.cc", "OpDataAbsRsqrt"),
    "RELU": ("activations.h", "ReluOpData"),
    "RELU6": ("activations.h", "Relu6OpData"),
    "ELU": ("elu.cc", "OpData"),
    "HARD_SWISH": ("hard_swish.cc", "HardSwishParams"),
    "LEAKY_RELU": ("leaky_relu.h", "LeakyReluOpData"),
    "PRELU": ("prelu.h", "PreluParams"),
    "LOGISTIC": ("logistic.h", "OpDataLogistic"),
    "TANH": ("tanh.cc", "OpData"),
    "SOFTMAX": ("softmax.h", "SoftmaxParams"),
    "L2_NORMALIZATION": ("l2norm.cc", "L2NormalizationParams"),
    "AVERAGE_POOL_2D": ("pooling.h", "OpDataPooling"),
    "MEAN": ("reduce.h", "OpDataReduce"),
    "QUANTIZE": ("quantize.h", "OpDataQuantizeReference"),
    "DEQUANTIZE": ("dequantize.h", "DequantizeOpData"),
    "PAD": ("pad_common.cc", "OpData"),
    "MIRROR_PAD": ("mirror_pad.cc", "OpDataMirrorPad"),
    "CONCATENATION": ("concatenation.cc", "OpData"),
    "STRIDED_SLICE": ("strided_slice.cc", "StridedSliceParams"),
    "SPACE_TO_BATCH_ND": ("space_to_batch_nd.cc", "SpaceToBatchParams"),
    "SELECT_V2": ("select.cc", "OpData"),
    "IF": ("if.cc", "OpData"),
    "WHILE": ("while.cc", "OpData"),
    "CALL_ONCE": ("call_once.cc", "OpData"),
    "VAR_HANDLE": ("var_handle.cc", "OpData"),
}


def sizes(tree: Path, include: str, types: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(size, alignment) of each of ``types``; none where the tree lacks one."""
    lines = [f'#include "{include}"', "namespace tflite {"]
    lines += [f"char size_of_{t}[sizeof({t})]; char align_of_{t}[alignof({t})];" for t in types] + ["}"]
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "a.cc"), Path(folder, "a.o")
        source.write_text("\n".join(lines))
        command = [*COMPILER, *(f"-I{tree / path}" for path in INCLUDES), "-c", str(source), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"not compiled: {include}: {done.stderr.strip().splitlines()[0][-120:]}", flush=True)
            return {}
        listed = subprocess.run(["arm-none-eabi-nm", "-S", str(made)], capture_output=True, text=True, check=True).stdout
    found = {(what, name): int(size, 16) for size, what, name in re.findall(r"^\w+ (\w+) \w \S*?(size|align)_of_(\w+?)E?$", listed, re.M)}
    return {t: (found["size", t], found["align", t]) for t in types}


def main() -> int:
    """Print the table; 1 where one of its sizes is below the compiler's."""
    tree = Path(sys.argv[1])
    params = sizes(tree, "tensorflow/lite/core/c/builtin_op_data.h", [f"TfLite{name}Params" for name in sorted(set(OPTIONS.values()))])
    rows: list[tuple[str, str, tuple[int, ...], tuple[int, ...]]] = []
    for kind, name in OPTIONS.items():
        if f"TfLite{name}Params" in params:
            rows.append((kind, "options", params[f"TfLite{name}Params"], KERNELS[kind].options["mcu"]))
    by_file: dict[str, set[str]] = defaultdict(set)
    for file, structure in STRUCTURES.values():
        by_file[file].add(structure)
    found = {}
    for file, types in by_file.items():
        for structure, size in sizes(tree, f"tensorflow/lite/micro/kernels/{file}", sorted(types)).items():
            found[file, structure] = size
    for kind, place in STRUCTURES.items():
        if place in found:
            rows.append((kind, "structure", found[place][:1], (KERNELS[kind].data["mcu"],)))
    smaller = 0
    for kind, what, compiled, tabled in rows:
        if compiled != tabled:
            below = tabled[0] < compiled[0]
            smaller += below
            print(f"{kind:32}{what:10} compiled {compiled}, in the table {tabled}{'  BELOW' if below else ''}")
    print(f"{sum(compiled == tabled for _, _, compiled, tabled in rows)} of {len(rows)} as compiled, {smaller} below")
    return 1 if smaller else 0


if __name__ == "__main__":
    sys.exit(main())
