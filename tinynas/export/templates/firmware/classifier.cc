// @banner@
#include "classifier.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "model_data.h"
#include "model_ops.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"

namespace @ns@ {
namespace {

alignas(16)
#ifdef @GUARD@_ARENA_SECTION
    __attribute__((section(@GUARD@_ARENA_SECTION)))
#endif
    uint8_t tensor_arena[kTensorArenaBytes];
runtime::MicroInterpreter* interpreter = nullptr;
bool ready = false;

InputElement* InputData() { return reinterpret_cast<InputElement*>(interpreter->input(0)->data.data); }
OutputElement* OutputData() { return reinterpret_cast<OutputElement*>(interpreter->output(0)->data.data); }

}  // namespace

bool Setup() {
  using namespace tflite;         // NOLINT
  using namespace tflite::micro;  // NOLINT
  if (ready) return true;
  if (interpreter != nullptr) return false;  // failed before: the log has said why
  InitializeTarget();
  static OpResolver resolver;
  if (!AddOperators(resolver)) {
    MicroPrintf("@ns@: an operator could not be added");
    return false;
  }
  static runtime::MicroInterpreter the_interpreter(GetModel(kModelData), resolver, tensor_arena, kTensorArenaBytes);
  interpreter = &the_interpreter;
  if (interpreter->AllocateTensors() != kTfLiteOk) {
    MicroPrintf("@ns@: %d bytes of arena are too few for this runtime, or it lacks an operator; try -D@GUARD@_ARENA_BYTES=%d",
                kTensorArenaBytes, 2 * kTensorArenaBytes);
    return false;
  }
  const int input_bytes = static_cast<int>(interpreter->input(0)->bytes), output_bytes = static_cast<int>(interpreter->output(0)->bytes);
  if (interpreter->input(0)->type != @input_tflite_type@ || input_bytes != kInputElements * static_cast<int>(sizeof(InputElement)) ||
      interpreter->output(0)->type != @output_tflite_type@ || output_bytes != kClasses * static_cast<int>(sizeof(OutputElement))) {
    MicroPrintf("@ns@: the model's tensors (%d and %d bytes) are not those of model_settings.h", input_bytes, output_bytes);
    return false;
  }
  ready = true;
  return true;
}

int ArenaUsedBytes() { return ready ? static_cast<int>(interpreter->arena_used_bytes()) : 0; }

InputElement* Input() { return ready ? InputData() : nullptr; }

const OutputElement* Output() { return ready ? OutputData() : nullptr; }

bool Invoke() {
  using namespace tflite;         // NOLINT
  using namespace tflite::micro;  // NOLINT
  return ready && interpreter->Invoke() == kTfLiteOk;
}

@classify_code@
@kept_code@
@several_code@float Logit(int class_index) {
  if (!ready || class_index < 0 || class_index >= kClasses) return 0.0f;
  return kOutputScale * (static_cast<float>(OutputData()[class_index]) - static_cast<float>(kOutputZeroPoint));
}

float Probability(int class_index) {
  if (!ready || class_index < 0 || class_index >= kClasses) return 0.0f;
@probability_code@
}

}  // namespace @ns@
