/* @star_banner@ */
#include "self_test.h"

#include <stdio.h>
#include <string.h>

#include "classifier.h"
#include "hear.h"
#include "self_test_data.h"

#define PAINT 0xa5
#define PIECE 160

/* Bytes of the work area up to the last one that was written since it was painted; the counters behind the rows always are. */
static unsigned long used_bytes(void) {
  const @ns@_t *network = @ns@_network();
  const uint8_t *area = (const uint8_t *)network->area;
  unsigned long used = sizeof network->area;
  while (used > 0 && area[used - 1] == PAINT) --used;
  return used + (unsigned long)(sizeof *network - sizeof network->area);
}

bool @ns@_self_test(void (*print)(const char *line)) {
  char line[160];
  int equal = 0, worst = 0;
  memset(@ns@_network(), PAINT, sizeof(@ns@_t));
  @ns@_hear_start();
  for (int at = 0; at < @GUARD@_CLIP;) {
    const int from = at % @GUARD@_SELF_TEST_SAMPLES;
    int piece = PIECE;
    if (piece > @GUARD@_CLIP - at) piece = @GUARD@_CLIP - at;
    if (piece > @GUARD@_SELF_TEST_SAMPLES - from) piece = @GUARD@_SELF_TEST_SAMPLES - from;
    @ns@_hear(@ns@_self_test_samples + from, piece);
    at += piece;
  }
  const int found = @ns@_answer();
  if (found < 0) {
    print("@self_test_fail@, the sound could not be classified");
    return false;
  }
  for (int frame = 0; frame < @GUARD@_FRAMES; ++frame) {
    equal += memcmp(@ns@_heard_frame(frame), @ns@_self_test_frames + frame * @GUARD@_FEATURES, @GUARD@_FEATURES) == 0;
  }
  for (int i = 0; i < @GUARD@_CLASSES; ++i) {
    const int difference = @ns@_output()[i] - @ns@_self_test_outputs[i];
    if (difference > worst) worst = difference;
    if (-difference > worst) worst = -difference;
  }
@several_heard@  const bool passed = worst == 0 && equal == @GUARD@_FRAMES;
  snprintf(line, sizeof line, "@ns@ self-test: %d of %d frames of the front end are equal", equal, @GUARD@_FRAMES);
  print(line);
  snprintf(line, sizeof line, "@ns@ self-test: sound 0 is \"%.40s\", largest difference %d steps: %s", @ns@_labels[found], worst,
           worst == 0 ? "ok" : "FAIL");
  print(line);
  snprintf(line, sizeof line, "@ns@ self-test: work area %lu of %lu bytes in use", used_bytes(), (unsigned long)sizeof(@ns@_t));
  print(line);
  print(passed ? "@self_test_pass@" : "@self_test_fail@");
  return passed;
}
