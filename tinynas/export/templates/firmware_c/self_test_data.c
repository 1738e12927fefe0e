/* @star_banner@ */
#include "self_test_data.h"

const uint8_t @ns@_self_test_pixels[@GUARD@_SELF_TEST_IMAGES][@GUARD@_HEIGHT * @GUARD@_WIDTH * @GUARD@_CHANNELS] = {
@self_test_pixels@
};

/* From @self_test_kernels@. */
const int8_t @ns@_self_test_outputs[@GUARD@_SELF_TEST_IMAGES][@GUARD@_CLASSES] = {
@self_test_outputs@
};

/* What @ns@_classify must say of them. */
const int @ns@_self_test_answers[@GUARD@_SELF_TEST_IMAGES] = {@self_test_answers@};
@several_defined@