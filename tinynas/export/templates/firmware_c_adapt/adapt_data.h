/* @star_banner@ */
#ifndef @GUARD@_ADAPT_DATA_H
#define @GUARD@_ADAPT_DATA_H

#include <stdint.h>

#include "adapt.h"

/* Old inputs as the network keeps them, one behind the other, and their classes; one that is never read where there are none. */
extern const int8_t @ns@_adapt_replay_bytes[@replay_bytes@];
extern const int16_t @ns@_adapt_replay_labels[@replay_room@];

/* Steps of the self-test, and FNV-1a of all parameters behind each. */
typedef struct {
  uint8_t image;
  int16_t label;
  float rate;
  uint32_t sum;
} @ns@_adapt_test_t;
#define @GUARD@_ADAPT_TEST_STEPS @test_steps@
extern const @ns@_adapt_test_t @ns@_adapt_test[@GUARD@_ADAPT_TEST_STEPS];

#endif
