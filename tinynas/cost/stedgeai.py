"""What the code that ST Edge AI Core generates takes in memory: what of an output lies over its input, and the scratch of a kernel.

Nobody outside ST has its planner's rules. Those here are the simplest that are physically possible and agree with what ST published
of twelve networks (``benchmarks/stedgeai.py`` chooses among them by the networks left out); the formulas of scratch are read off the
sizes of the buffers in code that the tool generated.
"""

from __future__ import annotations

from tinynas.cost.work import Piece

#: Operators that write where they read: elementwise ones, pools, and padding.
IN_PLACE = frozenset(
    {
        *("abs", "add", "div", "elu", "hard_swish", "leaky_relu", "logistic", "maximum", "minimum", "mul", "neg", "prelu", "relu", "relu6"),
        *("relu_n1_to_1", "softmax", "sub", "tanh", "quantize", "dequantize", "reshape", "squeeze"),
        *("avg_pool", "max_pool", "mean", "pad", "padv2"),
    }
)


def halves_shared(piece: Piece) -> int:
    """How many halves of the smaller of input and output lie in memory of the larger, where nothing reads the input later: 0, 1 or 2.

    A pointwise or strided convolution is done with a row of its input before it writes over it; a depthwise one of stride 1 has
    buffers of its own for both.
    """
    strided = max(piece.stride) > 1
    match piece.kind:
        case "conv":
            return 2 if strided or piece.kernel == (1, 1) else 1
        case "dw":
            return 1 if strided else 0
        case kind:
            return 2 if kind in IN_PLACE else 0


def scratch_bytes(piece: Piece) -> tuple[int, ...]:
    """Scratch of the kernel of ``piece``; channels may be integer arrays.

    Generated code (STM32Cube.AI 8 and 9) has 37 C + 1 for 3x3 depthwise, 4 Cin + 10 Cout for pointwise and 36 k k Cin + 4 Cout for other
    convolutions; a fully connected layer widens its input to 16 bits.
    """
    area = piece.kernel[0] * piece.kernel[1]
    match piece.kind:
        case "dw":
            return ((4 * area + 1) * piece.in_channels + 1,)
        case "conv" if area == 1:
            return (4 * piece.in_channels + 10 * piece.out_channels,)
        case "conv":
            return (36 * area * piece.in_channels + 4 * piece.out_channels,)
        case "fc":
            return (2 * piece.in_channels,)
        case _:
            return ()
