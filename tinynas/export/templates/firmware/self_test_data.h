// @banner@
#ifndef @GUARD@_SELF_TEST_DATA_H_
#define @GUARD@_SELF_TEST_DATA_H_

#include <stdint.h>

#include "image_input.h"
#include "model_settings.h"

namespace @ns@ {

constexpr int kSelfTestImages = @self_test_images@;
constexpr PixelFormat kSelfTestFormat = @self_test_format@;
extern const uint8_t kSelfTestPixels[kSelfTestImages][kInputElements];
extern const OutputElement kSelfTestOutputs[kSelfTestImages][kClasses];
extern const int kSelfTestAnswers[kSelfTestImages];
@several_declared@
}  // namespace @ns@

#endif  // @GUARD@_SELF_TEST_DATA_H_
