// Answers recorded inputs with the outputs recorded for them, and refuses what the real interpreter would refuse:
// a small or unaligned arena, a model that is not the file, operators too many or too few.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/stub_answers.h"  // written by the test
#include "tensorflow/lite/micro/system_setup.h"

namespace tflite {
namespace micro {}
}  // namespace tflite
using namespace tflite;         // NOLINT
using namespace tflite::micro;  // NOLINT

STUB_TYPES_BEGIN
void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
}
STUB_TYPES_END

STUB_BEGIN
void InitializeTarget() {}

MicroInterpreter::MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena, size_t arena_size)
    : model_(reinterpret_cast<const uint8_t*>(model)), resolver_(resolver), arena_(arena), arena_size_(arena_size) {}

TfLiteStatus MicroInterpreter::AllocateTensors() {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < kStubModelBytes; ++i) sum = sum * 31 + model_[i];
  if (sum != kStubModelSum || reinterpret_cast<uintptr_t>(model_) % 16 != 0) {
    MicroPrintf("stub: this is not the model file, or it is not aligned");
    return kTfLiteError;
  }
  if (reinterpret_cast<uintptr_t>(arena_) % 16 != 0 || arena_size_ < kStubArenaBytes) {
    MicroPrintf("stub: the arena is unaligned or has %d instead of %d bytes", static_cast<int>(arena_size_), static_cast<int>(kStubArenaBytes));
    return kTfLiteError;
  }
  if (resolver_.count != kStubOperators) {
    MicroPrintf("stub: %u operators for %u", resolver_.count, kStubOperators);
    return kTfLiteError;
  }
  for (unsigned int i = 0; i < kStubOperators; ++i) {
    bool found = false;
    for (unsigned int j = 0; j < resolver_.count; ++j) found = found || strcmp(kStubOperatorNames[i], resolver_.names[j]) == 0;
    if (!found) {
      MicroPrintf("stub: the resolver lacks %s", kStubOperatorNames[i]);
      return kTfLiteError;
    }
  }
  memset(arena_, 0xA5, arena_size_);
  input_.type = static_cast<TfLiteType>(kStubInputType);
  input_.bytes = kStubInputBytes;
  input_.data.data = arena_;
  output_.type = static_cast<TfLiteType>(kStubOutputType);
  output_.bytes = kStubOutputBytes;
  output_.data.data = arena_;  // over the input, as a memory planner may do
  return kTfLiteOk;
}

TfLiteStatus MicroInterpreter::Invoke() {
  for (unsigned int i = 0; i < kStubAnswers; ++i) {
    if (memcmp(input_.data.data, kStubInputs[i], kStubInputBytes) == 0) {
      memcpy(output_.data.data, kStubOutputs[i], kStubOutputBytes);
      return kTfLiteOk;
    }
  }
  MicroPrintf("stub: no answer is recorded for this input");
  return kTfLiteError;
}

size_t MicroInterpreter::arena_used_bytes() const { return kStubArenaBytes; }
STUB_END
