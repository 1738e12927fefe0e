// @banner@
#ifndef @GUARD@_SELF_TEST_DATA_H_
#define @GUARD@_SELF_TEST_DATA_H_

#include <stdint.h>

#include "front_end.h"
#include "model_settings.h"

namespace @ns@ {

constexpr int kSelfTestSamples = @self_test_samples@;
extern const int16_t kSelfTestSound[kSelfTestSamples];
extern const uint8_t kSelfTestFrames[@GUARD@_FRAMES * @GUARD@_FEATURES];
extern const OutputElement kSelfTestOutputs[kClasses];
@several_declared@
}  // namespace @ns@

#endif  // @GUARD@_SELF_TEST_DATA_H_
