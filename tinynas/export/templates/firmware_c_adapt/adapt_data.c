/* @star_banner@ */
#include "adapt_data.h"

const int8_t @ns@_adapt_replay_bytes[@replay_bytes@] = {
@replay_array@
};
const int16_t @ns@_adapt_replay_labels[@replay_room@] = {@replay_labels@};

const @ns@_adapt_test_t @ns@_adapt_test[@GUARD@_ADAPT_TEST_STEPS] = {
@test_array@
};
