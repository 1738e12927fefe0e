// @banner@
#include "self_test_data.h"

namespace @ns@ {

// Made by a formula.
const int16_t kSelfTestSound[kSelfTestSamples] = {
    @self_test_sound@
};

// What tinynas's own front end makes of it, repeated for a clip.
const uint8_t kSelfTestFrames[@GUARD@_FRAMES * @GUARD@_FEATURES] = {
@self_test_frames@
};

// From @self_test_kernels@.
const OutputElement kSelfTestOutputs[kClasses] =
@self_test_output@;
@several_defined@
}  // namespace @ns@
