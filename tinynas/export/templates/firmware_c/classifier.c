/* @star_banner@ */
#include "classifier.h"

#include <math.h>
#include <stddef.h>

static @ns@_t network
#ifdef @GUARD@_ARENA_SECTION
    __attribute__((section(@GUARD@_ARENA_SECTION)))
#endif
    ;
static bool answered;
@several_static@
@classifier_code@
@ns@_t *@ns@_network(void) { return &network; }

const int8_t *@ns@_output(void) { return answered ? @ns@_result(&network) : NULL; }
@kept_code@
int @ns@_answer(void) {
  const int8_t *output = @ns@_output();
  if (output == NULL) return -1;
@decide@
}

@several_code@float @ns@_logit(int class_index) {
  if (!answered || class_index < 0 || class_index >= @GUARD@_CLASSES) return 0.0f;
  return @GUARD@_OUTPUT_SCALE * (float)(@ns@_output()[class_index] - @GUARD@_OUTPUT_ZERO_POINT);
}

float @ns@_probability(int class_index) {
  if (!answered || class_index < 0 || class_index >= @GUARD@_CLASSES) return 0.0f;
@probability_code@
}
