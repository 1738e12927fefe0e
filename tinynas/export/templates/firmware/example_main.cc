// @banner@
// A whole application: replace GetFrame by your camera driver.
#include <stdint.h>
#include <stdio.h>

#include "classifier.h"
#include "tensorflow/lite/micro/micro_time.h"

namespace {

constexpr int kFrameWidth = 160, kFrameHeight = 120;
uint8_t frame_buffer[kFrameWidth * kFrameHeight * 2];

// A gray ramp stands for the camera. A driver would start the transfer and wait for its interrupt here.
bool GetFrame(@ns@::Frame* frame) {
  for (int y = 0; y < kFrameHeight; ++y) {
    for (int x = 0; x < kFrameWidth; ++x) {
      const int gray = (x + y) * 255 / (kFrameWidth + kFrameHeight);
      const int rgb565 = ((gray >> 3) << 11) | ((gray >> 2) << 5) | (gray >> 3);
      uint8_t* pixel = frame_buffer + 2 * (y * kFrameWidth + x);
      pixel[0] = static_cast<uint8_t>(rgb565 >> 8);
      pixel[1] = static_cast<uint8_t>(rgb565);
    }
  }
  *frame = {frame_buffer, kFrameWidth, kFrameHeight, @ns@::PixelFormat::kRgb565BigEndian, 0};
  return true;
}

// Prints milliseconds of an inference, the mean of some, as a CSV that tinynas reads (`latency: mine.csv` in a budget, beside the model
// file): for that the time of Invoke alone, which hangs on no value of the input. Nothing where the platform has no clock.
bool PrintTime() {
  constexpr uint32_t kRuns = 3;
  const uint32_t ticks_per_second = tflite::ticks_per_second();
  const uint32_t start = tflite::GetCurrentTimeTicks();
  for (uint32_t i = 0; i < kRuns; ++i) {
    if (!@ns@::Invoke()) return false;
  }
  const uint32_t ticks = tflite::GetCurrentTimeTicks() - start;
  if (ticks_per_second == 0 || ticks == 0) return true;
  // In whole numbers: the C libraries of many boards print no others.
  const uint64_t microseconds = uint64_t{ticks} * 1000000 / ticks_per_second / kRuns;
  printf("net,ms\n@model_file@,%lu.%03lu\n", static_cast<unsigned long>(microseconds / 1000), static_cast<unsigned long>(microseconds % 1000));
  return true;
}

}  // namespace

int main() {
  if (!@ns@::Setup()) return 1;  // the log says why
  @ns@::Frame frame;
  if (!GetFrame(&frame)) return 1;
  const int found = @ns@::Classify(frame);
  if (found < 0) return 1;
  printf("%s (%d %%), arena %d of %d bytes\n", @ns@::kLabels[found], static_cast<int>(100 * @ns@::Probability(found) + 0.5f),
         @ns@::ArenaUsedBytes(), @ns@::kTensorArenaBytes);
@several_example@  return PrintTime() ? 0 : 1;
}
