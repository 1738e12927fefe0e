/* @star_banner@ */
#ifndef @GUARD@_SELF_TEST_DATA_H
#define @GUARD@_SELF_TEST_DATA_H

#include <stdint.h>

#include "model_settings.h"

#define @GUARD@_SELF_TEST_IMAGES @self_test_images@
extern const uint8_t @ns@_self_test_pixels[@GUARD@_SELF_TEST_IMAGES][@GUARD@_HEIGHT * @GUARD@_WIDTH * @GUARD@_CHANNELS];
extern const int8_t @ns@_self_test_outputs[@GUARD@_SELF_TEST_IMAGES][@GUARD@_CLASSES];
extern const int @ns@_self_test_answers[@GUARD@_SELF_TEST_IMAGES];
@several_declared@
#endif
