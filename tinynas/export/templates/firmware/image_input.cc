// @banner@
#include "image_input.h"

namespace @ns@ {
namespace {

@image_pixels@
@image_whole@
}  // namespace

bool QuantizeFrame(const Frame& frame, InputElement* input, Resize resize) { return Convert(&frame, resize, input); }

}  // namespace @ns@
