// @banner@
// A whole application: replace GetFrame by your camera driver.
#include <stdint.h>
#include <stdio.h>

#include "classifier.h"

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

}  // namespace

int main() {
  if (!@ns@::Setup()) return 1;  // the log says why
  @ns@::Frame frame;
  if (!GetFrame(&frame)) return 1;
  const int found = @ns@::Classify(frame);
  if (found < 0) return 1;
  printf("%s (%d %%), arena %d of %d bytes\n", @ns@::kLabels[found], static_cast<int>(100 * @ns@::Probability(found) + 0.5f),
         @ns@::ArenaUsedBytes(), @ns@::kTensorArenaBytes);
  return 0;
}
