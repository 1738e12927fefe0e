// @banner@
// Everything the code around the model must know about it.
#ifndef @GUARD@_MODEL_SETTINGS_H_
#define @GUARD@_MODEL_SETTINGS_H_

#include <stdint.h>

namespace @ns@ {

// Input: @input_what@, height x width x channels, row by row, channels together.
constexpr int kInputHeight = @input_height@;
constexpr int kInputWidth = @input_width@;
constexpr int kInputChannels = @input_channels@;  // @input_channels_note@
constexpr int kInputElements = kInputHeight * kInputWidth * kInputChannels;
using InputElement = @input_type@;
constexpr float kInputScale = @input_scale@;  // real = scale * (element - zero point)
constexpr int kInputZeroPoint = @input_zero_point@;
// The network takes real = @input_formula@ of a @input_element@ 0 to 255.
@rotation_lines@
@pixel_function@

// Output: one logit a class.
constexpr int kClasses = @classes@;
using OutputElement = @output_type@;
constexpr float kOutputScale = @output_scale@;
constexpr int kOutputZeroPoint = @output_zero_point@;
extern const char* const kLabels[kClasses];
@threshold_settings@@several_settings@
// Tensor arena in bytes.
@arena_note@
#ifndef @GUARD@_ARENA_BYTES
#if UINTPTR_MAX > 0xFFFFFFFFu
#define @GUARD@_ARENA_BYTES @arena_host@
#else
#define @GUARD@_ARENA_BYTES @arena_mcu@
#endif
#endif
constexpr int kTensorArenaBytes = @GUARD@_ARENA_BYTES;
// The linker section of the arena, where a board has several memories: -D@GUARD@_ARENA_SECTION='".bss.fast"'. A section whose name
// does not begin with .bss may take as much flash, for zeros, unless the linker script says NOLOAD.
@arena_section@

// MicroInterpreter wants exactly these operators: see model_ops.h.
constexpr int kOperators = @operator_kinds@;

}  // namespace @ns@

#endif  // @GUARD@_MODEL_SETTINGS_H_
