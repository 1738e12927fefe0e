/* @star_banner@
 *
 * A whole application: replace camera_row by your camera driver.
 */
#include <stdio.h>

#include "classifier.h"

#define FRAME_WIDTH 160
#define FRAME_HEIGHT 120

/* A gray ramp stands for the camera. A driver would wait for its interrupt here. */
static void camera_row(int y, uint8_t *pixels) {
  for (int x = 0; x < FRAME_WIDTH; ++x, pixels += 2) {
    const int gray = (x + y) * 255 / (FRAME_WIDTH + FRAME_HEIGHT);
    const int rgb565 = ((gray >> 3) << 11) | ((gray >> 2) << 5) | (gray >> 3);
    pixels[0] = (uint8_t)(rgb565 >> 8);
    pixels[1] = (uint8_t)rgb565;
  }
}

@example_classify@
int main(void) {
  const int found = classify_frame();
  if (found < 0) return 1;
  printf("%s (%d %%), work area %lu bytes\n", @ns@_labels[found], (int)(100.0f * @ns@_probability(found) + 0.5f),
         (unsigned long)@GUARD@_WORK_BYTES);
@several_example@  return 0;
}
