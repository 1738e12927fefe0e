// @banner@
#include "self_test_data.h"

namespace @ns@ {

const uint8_t kSelfTestPixels[kSelfTestImages][kInputElements] = {
@self_test_pixels@
};

// From @self_test_kernels@.
const OutputElement kSelfTestOutputs[kSelfTestImages][kClasses] = {
@self_test_outputs@
};

// What Classify must say of them.
const int kSelfTestAnswers[kSelfTestImages] = {@self_test_answers@};
@several_defined@
}  // namespace @ns@
