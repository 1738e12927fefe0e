// @banner@
#include "self_test.h"

#include <string.h>

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
  constexpr int kPiece = 160;
  @ns@_hear_start();
  for (int at = 0; at < @GUARD@_CLIP;) {
    const int from = at % kSelfTestSamples;
    int piece = kPiece;
    if (piece > @GUARD@_CLIP - at) piece = @GUARD@_CLIP - at;
    if (piece > kSelfTestSamples - from) piece = kSelfTestSamples - from;
    @ns@_hear(kSelfTestSound + from, piece);
    at += piece;
  }
  int equal = 0;
  for (int frame = 0; frame < @GUARD@_FRAMES; ++frame) {
    equal += memcmp(@ns@_heard_frame(frame), kSelfTestFrames + frame * @GUARD@_FEATURES, @GUARD@_FEATURES) == 0;
  }
  MicroPrintf("@ns@ self-test: %d of %d frames of the front end are equal", equal, @GUARD@_FRAMES);
  float worst = 0;  // float holds every difference of 8-bit outputs, and float outputs as they are
  for (int i = 0; i < kClasses; ++i) {
    float difference = static_cast<float>(Output()[i]) - static_cast<float>(kSelfTestOutputs[i]);
    if (difference < 0) difference = -difference;
    if (!(difference <= worst)) worst = difference;
  }
  const bool same = worst <= static_cast<float>(@GUARD@_SELF_TEST_TOLERANCE);
  MicroPrintf("@ns@ self-test: sound 0 is \"%s\", largest difference %d steps: %s", kLabels[Answer()], static_cast<int>(worst),
              same ? "ok" : "FAIL");
@several_heard@  const bool passed = same && equal == @GUARD@_FRAMES;
  MicroPrintf(passed ? "@self_test_pass@" : "@self_test_fail@");
  return passed;
}

}  // namespace @ns@
