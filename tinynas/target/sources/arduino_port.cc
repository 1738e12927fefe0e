// What the Arduino library asks of its platform, for an emulated core without one: where words go, and a clock that nobody reads.
#include <stdint.h>
#include <stdio.h>

extern "C" void DebugLog(const char* text) { fputs(text, stdout); }

namespace tflite {

void InitializeTarget() {}
uint32_t ticks_per_second() { return 1000000; }
uint32_t GetCurrentTimeTicks() { return 0; }

}  // namespace tflite
