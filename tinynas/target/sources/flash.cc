// The least program that sets up a model and runs it: what is linked for it is what the interpreter and its kernels take of flash.
#include <stdint.h>

#include "probe_operators.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
extern const uint8_t tinynas_model[];
}
alignas(16) static uint8_t arena[16];

int main() {
  using namespace tflite;  // NOLINT  names moved between versions
  InitializeTarget();
  static ProbeResolver resolver;
  if (!AddProbeOperators(resolver)) return 1;
  static MicroInterpreter interpreter(GetModel(tinynas_model), resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return 2;
  return interpreter.Invoke() == kTfLiteOk ? interpreter.output(0)->data.int8[0] + interpreter.input(0)->data.int8[0] : 3;
}
