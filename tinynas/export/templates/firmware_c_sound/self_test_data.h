/* @star_banner@ */
#ifndef @GUARD@_SELF_TEST_DATA_H
#define @GUARD@_SELF_TEST_DATA_H

#include <stdint.h>

#include "front_end.h"
#include "model_settings.h"

#define @GUARD@_SELF_TEST_SAMPLES @self_test_samples@
extern const int16_t @ns@_self_test_samples[@GUARD@_SELF_TEST_SAMPLES];
extern const uint8_t @ns@_self_test_frames[@GUARD@_FRAMES * @GUARD@_FEATURES];
extern const int8_t @ns@_self_test_outputs[@GUARD@_CLASSES];
@further_declared@@several_declared@
#endif
