// @banner@
// A whole application: replace Microphone by your driver.
#include <stdint.h>
#include <stdio.h>

#include "classifier.h"

namespace {

constexpr int kBlock = 256;

// Something that hums stands for the microphone. A driver would wait for its interrupt here.
void Microphone(int16_t* samples, int count) {
  static uint32_t seed = 1;
  static int phase = 0;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    phase = (phase + 440) % @GUARD@_SAMPLE_RATE;
    samples[i] = static_cast<int16_t>((phase < @GUARD@_SAMPLE_RATE / 2 ? 3000 : -3000) + static_cast<int>(seed >> 22) - 512);
  }
}

}  // namespace

int main() {
  if (!@ns@::Setup()) return 1;  // the log says why
  int16_t samples[kBlock];
  @ns@_hear_start();
  for (int heard = 0; heard < 2 * @GUARD@_CLIP; heard += kBlock) {
    Microphone(samples, kBlock);
    const int found = @ns@_hear(samples, kBlock);
    if (found >= 0) printf("%s (%d @score_unit@)\n", @ns@::kLabels[found], @ns@_score(found));
  }
  const int last = @ns@::Answer();
  if (last < 0) return 1;
  printf("last: %s (%d @score_unit@), arena %d of %d bytes\n", @ns@::kLabels[last], @ns@_score(last), @ns@::ArenaUsedBytes(), @ns@::kTensorArenaBytes);
@several_example@  return 0;
}
