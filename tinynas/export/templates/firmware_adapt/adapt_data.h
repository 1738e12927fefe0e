// @banner@
#ifndef @GUARD@_ADAPT_DATA_H_
#define @GUARD@_ADAPT_DATA_H_

#include <stdint.h>

#include "adapt.h"

namespace @ns@ {

// Old inputs as the network keeps them, one behind the other, and their classes; one that is never read where there are none.
extern const int8_t kAdaptReplayBytes[@replay_bytes@];
extern const int16_t kAdaptReplayLabels[@replay_room@];

// Steps of the self-test, and FNV-1a of all parameters behind each.
struct AdaptTest {
  uint8_t image;
  int16_t label;
  float rate;
  uint32_t sum;
};
constexpr int kAdaptTestSteps = @test_steps@;
extern const AdaptTest kAdaptTest[kAdaptTestSteps];

}  // namespace @ns@

#endif  // @GUARD@_ADAPT_DATA_H_
