/* @star_banner@ */
#include "self_test.h"

#include <stdio.h>
#include <string.h>

#include "classifier.h"
#include "hear.h"
#include "self_test_data.h"

#define PAINT 0xa5

/* Bytes of the work area up to the last one that was written since it was painted; the counters behind the rows always are. */
static unsigned long used_bytes(void) {
  const @ns@_t *network = @ns@_network();
  const uint8_t *area = (const uint8_t *)network->area;
  unsigned long used = sizeof network->area;
  while (used > 0 && area[used - 1] == PAINT) --used;
  return used + (unsigned long)(sizeof *network - sizeof network->area);
}

/* Hears the stored sound for a clip, and counts the frames that are the host's. */
static int equal_frames(const uint8_t *frames) {
  int equal = 0, complete = 0;
  for (int at = 0; at < @GUARD@_CLIP;) {
    const int from = at % @GUARD@_SELF_TEST_SAMPLES;
    int piece = @GUARD@_STRIDE; /* no more than one frame becomes complete in it */
    if (piece > @GUARD@_CLIP - at) piece = @GUARD@_CLIP - at;
    if (piece > @GUARD@_SELF_TEST_SAMPLES - from) piece = @GUARD@_SELF_TEST_SAMPLES - from;
    @ns@_hear(@ns@_self_test_samples + from, piece);
    at += piece;
    const int now = at < @GUARD@_WINDOW ? 0 : (at - @GUARD@_WINDOW) / @GUARD@_STRIDE + 1;
    if (now == complete) continue;
    equal += memcmp(@ns@_heard_frame(@newest_index@), frames + complete * @GUARD@_FEATURES, @GUARD@_FEATURES) == 0;
    complete = now;
  }
  return equal;
}

/* The largest difference of the newest outputs from `expected`; prints a line. */
static int largest_difference(int sound, const int8_t *expected, void (*print)(const char *line)) {
  char line[160];
  int worst = 0;
  for (int i = 0; i < @GUARD@_CLASSES; ++i) {
    const int difference = @ns@_output()[i] - expected[i];
    if (difference > worst) worst = difference;
    if (-difference > worst) worst = -difference;
  }
  snprintf(line, sizeof line, "@ns@ self-test: sound %d is \"%.40s\", largest difference %d steps: %s", sound, @ns@_labels[@ns@_answer()],
           worst, worst == 0 ? "ok" : "FAIL");
  print(line);
  return worst;
}

bool @ns@_self_test(void (*print)(const char *line)) {
  char line[160];
  memset(@ns@_network(), PAINT, sizeof(@ns@_t));
  @ns@_hear_start();
  const int equal = equal_frames(@ns@_self_test_frames);
  snprintf(line, sizeof line, "@ns@ self-test: %d of %d frames of the front end are equal", equal, @GUARD@_FRAMES);
  print(line);
  if (@ns@_answer() < 0) {
    print("@self_test_fail@, the sound could not be classified");
    return false;
  }
@several_heard@  bool passed = largest_difference(0, @ns@_self_test_outputs, print) == 0 && equal == @GUARD@_FRAMES;
@further_heard@  snprintf(line, sizeof line, "@ns@ self-test: work area %lu of %lu bytes in use", used_bytes(), (unsigned long)sizeof(@ns@_t));
  print(line);
  @ns@_hear_start();
  print(passed ? "@self_test_pass@" : "@self_test_fail@");
  return passed;
}
