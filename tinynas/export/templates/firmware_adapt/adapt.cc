// @banner@
#include "adapt.h"

#include <string.h>

#include "adapt_data.h"
#include "classifier.h"
#include "self_test_data.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace tflite {
namespace micro {}
}  // namespace tflite

@exact@
namespace @ns@ {
namespace {

@core@
// What the runtime keeps of the frame that it has just seen.
bool Look(const Frame& frame) {
  if (Classify(frame) < 0) return false;
  for (uint32_t i = 0; i < kKept; ++i) kept[i] = Kept(static_cast<int>(i));
  return true;
}

}  // namespace

bool AdaptBegin() {
  if (!Setup()) return false;
  Begin();
  return true;
}

bool AdaptStep(const Frame& frame, int label, float new_rate) { return begun && Look(frame) && Learn(label, new_rate); }

bool AdaptReplay(int number, float new_rate) {
  if (number < 0 || number >= kAdaptReplays) return false;
  KeptOf(kAdaptReplayBytes + number * kAdaptKeptBytes);
  return Learn(kAdaptReplayLabels[number], new_rate);
}

bool AdaptStepKept(const int8_t* block, int label, float new_rate) {
  KeptOf(block);
  return block != nullptr && Learn(label, new_rate);
}

void AdaptFlush(float new_rate) {
  rate = new_rate;
  if (waiting != 0) Apply();
}

int AdaptAnswer(const Frame& frame) { return begun && Look(frame) ? Answer() : -1; }

float AdaptProbability(int class_index) {
  if (!answered || class_index < 0 || class_index >= kClasses) return 0.0f;
  return memory[values[kOutput].gradient + class_index];
}

bool AdaptKeep(int8_t* to) {
  for (uint32_t i = 0; i < kKept; ++i) {
    const int8_t* from = Kept(static_cast<int>(i));
    if (from == nullptr || to == nullptr) return false;
    memcpy(to, from, kept_bytes[i]);
    to += kept_bytes[i];
  }
  return true;
}

size_t AdaptSave(uint8_t* blob, size_t room) { return Save(blob, room < 0x7fffffffu ? static_cast<uint32_t>(room) : 0x7fffffffu); }

bool AdaptRestore(const uint8_t* blob, size_t bytes) {
  return Setup() && Restore(blob, bytes < 0x7fffffffu ? static_cast<uint32_t>(bytes) : 0x7fffffffu);
}

bool AdaptSelfTest() {
  using namespace tflite;         // NOLINT  MicroPrintf is global in older interpreters
  using namespace tflite::micro;  // NOLINT
  bool passed = AdaptBegin();
  MicroPrintf("@ns@ adapt self-test: memory of learning %d bytes", static_cast<int>(sizeof memory));
  for (int i = 0; passed && i < kAdaptTestSteps; ++i) {
    const Frame frame = {kSelfTestPixels[kAdaptTest[i].image], kInputWidth, kInputHeight, kSelfTestFormat, 0};
    const bool stepped = AdaptStep(frame, kAdaptTest[i].label, kAdaptTest[i].rate);
    const bool equal = stepped && Learned(2166136261u) == kAdaptTest[i].sum;
    MicroPrintf("@ns@ adapt self-test: step %d, %s", i, equal ? "every parameter equal" : stepped ? "parameters differ" : "refused");
    passed = passed && equal;
  }
  if (passed) Begin();
  MicroPrintf(passed ? "@ns@ adapt self-test: PASS" : "@ns@ adapt self-test: FAIL");
  return passed;
}

}  // namespace @ns@
