// @banner@
#include "self_test.h"

#include "classifier.h"
#include "self_test_data.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace tflite {
namespace micro {}
}  // namespace tflite

namespace @ns@ {

bool SelfTest() {
  using namespace tflite;         // NOLINT  MicroPrintf is global in older interpreters
  using namespace tflite::micro;  // NOLINT
  if (!Setup()) {
    MicroPrintf("@self_test_fail@, the model could not be set up");
    return false;
  }
  MicroPrintf("@ns@ self-test: arena %d of %d bytes in use", ArenaUsedBytes(), kTensorArenaBytes);
  bool passed = true;
  for (int image = 0; image < kSelfTestImages; ++image) {
    const Frame frame = {kSelfTestPixels[image], kInputWidth, kInputHeight, kSelfTestFormat, 0};
    const int found = Classify(frame);
    if (found < 0) {
      MicroPrintf("@self_test_fail@, image %d could not be classified", image);
      return false;
    }
    float worst = 0;  // float holds every difference of 8-bit outputs, and float outputs as they are
    for (int i = 0; i < kClasses; ++i) {
      float difference = static_cast<float>(Output()[i]) - static_cast<float>(kSelfTestOutputs[image][i]);
      if (difference < 0) difference = -difference;
      if (!(difference <= worst)) worst = difference;
    }
    const bool equal = worst <= static_cast<float>(@GUARD@_SELF_TEST_TOLERANCE) && found == kSelfTestAnswers[image];
    MicroPrintf("@ns@ self-test: image %d is \"%s\", largest difference %d steps: %s", image, kLabels[found], static_cast<int>(worst),
                equal ? "ok" : "FAIL");
    passed = passed && equal;
@several_checked@  }
  MicroPrintf(passed ? "@self_test_pass@" : "@self_test_fail@");
  return passed;
}

}  // namespace @ns@
