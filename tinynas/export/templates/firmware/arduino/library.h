// @banner@
#ifndef @GUARD@_H_
#define @GUARD@_H_

#if defined(ARDUINO)
// The TFLM library. Where the sketch has included another one's header before this, that one is taken.
#if __has_include(<TensorFlowLite.h>)
#include <TensorFlowLite.h>
#elif __has_include(<tflm_esp32.h>)
#include <tflm_esp32.h>
#else
#include <Chirale_TensorFlowLite.h>
#endif
#endif

#include "classifier.h"
@more_includes@#include "self_test.h"

#endif  // @GUARD@_H_
