// The least programs that set up a model and run it: what is linked for one is what the interpreter and its kernels take of flash.
// Each lies in a section of its own; the linker is told which of them is main.
#include <stdint.h>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
extern const uint8_t tinynas_model[];
}
alignas(16) static uint8_t arena[16];

// NOLINTNEXTLINE  using: names moved between versions
#define PROGRAM(NAME, COUNT, ADDS)                                                                                                     \
  extern "C" int NAME() {                                                                                                              \
    using namespace tflite;                                                                                                            \
    InitializeTarget();                                                                                                                \
    static MicroMutableOpResolver<COUNT> resolver;                                                                                     \
    bool ok = true;                                                                                                                    \
    ADDS;                                                                                                                              \
    if (!ok) return 1;                                                                                                                 \
    static MicroInterpreter interpreter(GetModel(tinynas_model), resolver, arena, sizeof(arena));                                      \
    if (interpreter.AllocateTensors() != kTfLiteOk) return 2;                                                                          \
    return interpreter.Invoke() == kTfLiteOk ? interpreter.output(0)->data.int8[0] + interpreter.input(0)->data.int8[0] : 3;           \
  }

#include "flash_programs.h"
