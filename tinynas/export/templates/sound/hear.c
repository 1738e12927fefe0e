/* @star_banner@ */
#include "hear.h"

#include <string.h>

#include "classifier.h"

#define CLASSES @classes@

static struct {
  @ns@_front_end_t sound;
@heard_fields@
  uint8_t scores[@GUARD@_SMOOTHED * CLASSES]; /* @scores_note@ */
  int32_t answers; /* that were given, up to twice as many as are averaged */
  int32_t quiet;   /* frames for which nothing is told */
} ear;

void @ns@_hear_start(void) {
  memset(&ear, 0, sizeof ear);
  @ns@_front_end_start(&ear.sound);
@forget_line@}

@heard_code@

static int32_t total(int class_index, int32_t *count) {
  int32_t sum = 0;
  *count = ear.answers < @GUARD@_SMOOTHED ? ear.answers : @GUARD@_SMOOTHED;
  for (int32_t i = 0; i < *count; ++i) sum += ear.scores[i * CLASSES + class_index];
  return sum;
}

@judged@

int @ns@_hear(const int16_t *samples, int count) {
  int found = -1;
  while (count > 0) {
    int ready;
    const int taken = @ns@_front_end_push(&ear.sound, samples, count, newest(), &ready);
    samples += taken;
    count -= taken;
    if (!ready) continue;
    if (ear.quiet > 0) --ear.quiet;
    if (!thought()) continue;
    const int heard = judged();
    if (heard >= 0) found = heard;
  }
  return found;
}
