/* @star_banner@
 *
 * A whole application: replace microphone by your driver.
 */
#include <stdio.h>

#include "classifier.h"
#include "hear.h"

#define BLOCK 256

/* Something that hums stands for the microphone. A driver would wait for its interrupt here. */
static void microphone(int16_t *samples, int count) {
  static uint32_t seed = 1;
  static int phase;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    phase = (phase + 440) % @GUARD@_SAMPLE_RATE;
    samples[i] = (int16_t)((phase < @GUARD@_SAMPLE_RATE / 2 ? 3000 : -3000) + (int)(seed >> 22) - 512);
  }
}

int main(void) {
  int16_t samples[BLOCK];
  @ns@_hear_start();
  for (int heard = 0; heard < 2 * @GUARD@_CLIP; heard += BLOCK) {
    microphone(samples, BLOCK);
    const int found = @ns@_hear(samples, BLOCK);
    if (found >= 0) printf("%s (%d @score_unit@)\n", @ns@_labels[found], @ns@_score(found));
  }
  const int last = @ns@_answer();
  if (last < 0) return 1;
  printf("last: %s (%d @score_unit@), work area %lu bytes\n", @ns@_labels[last], @ns@_score(last), (unsigned long)@GUARD@_WORK_BYTES);
@several_example@  return 0;
}
