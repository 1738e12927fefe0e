// @banner@
// From a camera frame to the model's input tensor: center crop, resize, color, quantization, rotation, in one
// pass and without a second buffer.
#ifndef @GUARD@_IMAGE_INPUT_H_
#define @GUARD@_IMAGE_INPUT_H_

#include <stdint.h>

#include "model_settings.h"

namespace @ns@ {

enum class PixelFormat : uint8_t {
  kRgb888,              // bytes R, G, B
  kBgr888,              // bytes B, G, R
  kRgb565LittleEndian,  // 16 bits RRRRRGGG GGGBBBBB, low byte first
  kRgb565BigEndian,     // the same, high byte first: what most camera modules send
  kGray8,               // one byte
};

enum class Resize : uint8_t {
  kLikeTraining,  // kArea where the window is reduced, kBilinear where it is enlarged
  kArea,          // mean over the pixels covered: reads every pixel of the crop once
  kBilinear,      // four pixels read for each one written
  kNearest,       // one pixel read for each one written: fastest, aliases when reducing
};

struct Frame {
  const uint8_t* pixels;
  int width;
  int height;
  PixelFormat format;
  int stride_bytes;  // from one row to the next; 0 where rows follow each other
};

// Writes kInputElements elements. The largest centered window with the input's aspect ratio is resized, as in
// training; nothing is squashed. False (and nothing written) for an empty frame, a stride shorter than a
// row, or a frame beyond 16,843,009 pixels (32-bit sums).
bool QuantizeFrame(const Frame& frame, InputElement* input, Resize resize = Resize::kLikeTraining);

}  // namespace @ns@

#endif  // @GUARD@_IMAGE_INPUT_H_
