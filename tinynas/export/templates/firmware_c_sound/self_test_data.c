/* @star_banner@ */
#include "self_test_data.h"

/* Made by a formula. */
const int16_t @ns@_self_test_samples[@GUARD@_SELF_TEST_SAMPLES] = {
    @self_test_sound@
};

/* What tinynas's own front end makes of it, repeated for a clip. */
const uint8_t @ns@_self_test_frames[@GUARD@_FRAMES * @GUARD@_FEATURES] = {
@self_test_frames@
};

/* From @self_test_kernels@: of the clip. */
const int8_t @ns@_self_test_outputs[@GUARD@_CLASSES] =
@self_test_output@;
@further_defined@@several_defined@