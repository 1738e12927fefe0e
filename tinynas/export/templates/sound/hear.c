/* @star_banner@ */
#include "hear.h"

#include <string.h>

#include "classifier.h"

#define CLASSES @classes@

static struct {
  @ns@_front_end_t sound;
  uint8_t ring[@GUARD@_FRAMES * @GUARD@_FEATURES];
  uint8_t scores[@GUARD@_SMOOTHED * CLASSES]; /* of 255 */
  int32_t next;    /* frame of the ring that is written next: the oldest, once it is full */
  int32_t frames;  /* that are new to the network, up to all of them */
  int32_t answers; /* that were given, up to twice as many as are averaged */
  int32_t quiet;   /* frames for which nothing is told */
} ear;

void @ns@_hear_start(void) {
  memset(&ear, 0, sizeof ear);
  @ns@_front_end_start(&ear.sound);
}

const uint8_t *@ns@_heard_frame(int frame) { return ear.ring + (ear.next + frame) % @GUARD@_FRAMES * @GUARD@_FEATURES; }

static int32_t total(int class_index, int32_t *count) {
  int32_t sum = 0;
  *count = ear.answers < @GUARD@_SMOOTHED ? ear.answers : @GUARD@_SMOOTHED;
  for (int32_t i = 0; i < *count; ++i) sum += ear.scores[i * CLASSES + class_index];
  return sum;
}

int @ns@_score(int class_index) {
  int32_t count;
  if (class_index < 0 || class_index >= CLASSES) return 0;
  const int32_t sum = total(class_index, &count);
  return count == 0 ? 0 : (int)((100 * sum + 255 * count / 2) / (255 * count));
}

/* The class to tell after an inference, or -1. */
static int judged(void) {
  int32_t count, most = -1;
  int best = 0;
  uint8_t *scores = ear.scores + ear.answers % @GUARD@_SMOOTHED * CLASSES;
  for (int i = 0; i < CLASSES; ++i) scores[i] = (uint8_t)(255.0f * @ns@_chance(i) + 0.5f);
  if (++ear.answers == 2 * @GUARD@_SMOOTHED) ear.answers = @GUARD@_SMOOTHED;
  for (int i = 0; i < CLASSES; ++i) {
    const int32_t sum = total(i, &count);
    if (sum > most) {
      most = sum;
      best = i;
    }
  }
  if (ear.quiet > 0 || 100 * most < @GUARD@_THRESHOLD * 255 * count) return -1;
  ear.quiet = @GUARD@_REFRACTORY;
  return best;
}

int @ns@_hear(const int16_t *samples, int count) {
  int found = -1;
  while (count > 0) {
    int ready;
    const int taken = @ns@_front_end_push(&ear.sound, samples, count, ear.ring + ear.next * @GUARD@_FEATURES, &ready);
    samples += taken;
    count -= taken;
    if (!ready) continue;
    ear.next = (ear.next + 1) % @GUARD@_FRAMES;
    if (ear.quiet > 0) --ear.quiet;
    if (++ear.frames < @GUARD@_FRAMES) continue;
    ear.frames -= @GUARD@_HOP < @GUARD@_FRAMES ? @GUARD@_HOP : @GUARD@_FRAMES;
    if (@ns@_think(ear.ring, (int)ear.next)) {
      const int heard = judged();
      if (heard >= 0) found = heard;
    }
  }
  return found;
}
