#ifndef WHEEL_MICRO_TIME_H_
#define WHEEL_MICRO_TIME_H_

#include <stdint.h>
#include <time.h>

namespace tflite {
// The real one has none where TF_LITE_USE_CTIME is not defined; -DWHEEL_NO_CLOCK says so here.
#ifdef WHEEL_NO_CLOCK
inline uint32_t ticks_per_second() { return 0; }
#else
inline uint32_t ticks_per_second() { return CLOCKS_PER_SEC; }
#endif
inline uint32_t GetCurrentTimeTicks() { return static_cast<uint32_t>(clock()); }
}  // namespace tflite

#endif
