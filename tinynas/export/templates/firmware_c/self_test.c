/* @star_banner@ */
#include "self_test.h"

#include <stdio.h>
#include <string.h>

#include "classifier.h"
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

bool @ns@_self_test(void (*print)(const char *line)) {
  char line[160];
  bool passed = true;
  unsigned long used = 0;
  for (int image = 0; image < @GUARD@_SELF_TEST_IMAGES; ++image) {
    const @ns@_frame_t frame = {@ns@_self_test_pixels[image], @GUARD@_WIDTH, @GUARD@_HEIGHT, @self_test_format@, 0};
    memset(@ns@_network(), PAINT, sizeof(@ns@_t));
    const int found = @ns@_classify(&frame, @GUARD@_LIKE_TRAINING);
    if (found < 0) {
      snprintf(line, sizeof line, "@self_test_fail@, image %d could not be classified", image);
      print(line);
      return false;
    }
    int worst = 0;
    for (int i = 0; i < @GUARD@_CLASSES; ++i) {
      const int difference = @ns@_output()[i] - @ns@_self_test_outputs[image][i];
      if (difference > worst) worst = difference;
      if (-difference > worst) worst = -difference;
    }
    const bool equal = worst == 0 && found == @ns@_self_test_answers[image];
    if (used_bytes() > used) used = used_bytes();
    snprintf(line, sizeof line, "@ns@ self-test: image %d is \"%.40s\", largest difference %d steps: %s", image, @ns@_labels[found], worst,
             equal ? "ok" : "FAIL");
    print(line);
    passed = passed && equal;
@several_checked@  }
  snprintf(line, sizeof line, "@ns@ self-test: work area %lu of %lu bytes in use", used, (unsigned long)sizeof(@ns@_t));
  print(line);
  print(passed ? "@self_test_pass@" : "@self_test_fail@");
  return passed;
}
