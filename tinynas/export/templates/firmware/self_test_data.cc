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

}  // namespace @ns@
