// @banner@
#include "adapt_data.h"

namespace @ns@ {

const int8_t kAdaptReplayBytes[@replay_bytes@] = {
@replay_array@
};
const int16_t kAdaptReplayLabels[@replay_room@] = {@replay_labels@};

const AdaptTest kAdaptTest[kAdaptTestSteps] = {
@test_array@
};

}  // namespace @ns@
