// Reads models that the emulator has put into memory, and says what TensorFlow Lite for Microcontrollers takes for each: bytes of arena,
// outputs, and instructions of each operator. The operators are added by probe_operators.h.
//
// The blob at TINYNAS_BLOB: "TNPB", number of models, then for each 8 words: offset and bytes of the model, offset and bytes of its inputs
// (all inputs of one run, one behind the other), number of runs, bytes of arena, number of resource variables, flags (2: count
// instructions). Offsets are from the blob's start, models lie on 16 bytes.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "probe_operators.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_profiler_interface.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

extern "C" {
extern volatile uint32_t tinynas_wraps;
}

namespace {

using namespace tflite;  // NOLINT  names moved between versions

struct Entry {
  uint32_t model, model_bytes, inputs, input_bytes, runs, arena_bytes, variables, flags;
};

constexpr uint32_t kMaxEvents = 2000;

// SysTick counts down from 2^24 - 1 by the emulated clock, which icount ties to executed instructions.
uint64_t Ticks() {
  volatile uint32_t* const value = reinterpret_cast<volatile uint32_t*>(0xE000E018u);
  for (;;) {
    const uint32_t wraps = tinynas_wraps, low = *value;
    if (wraps == tinynas_wraps) return (static_cast<uint64_t>(wraps) << 24) + (0xFFFFFFu - low);
  }
}

void StartClock() {
  *reinterpret_cast<volatile uint32_t*>(0xE000E014u) = 0xFFFFFFu;
  *reinterpret_cast<volatile uint32_t*>(0xE000E018u) = 0;
  *reinterpret_cast<volatile uint32_t*>(0xE000E010u) = 7;  // processor clock, interrupt at each wrap, on
  while (*reinterpret_cast<volatile uint32_t*>(0xE000E018u) == 0) {  // until the first tick has loaded it
  }
}

class Profiler : public MicroProfilerInterface {
 public:
  uint32_t BeginEvent(const char* tag) override {
    if (count_ < kMaxEvents) {
      tags_[count_] = tag;
      ticks_[count_] = Ticks();
    }
    return count_++;
  }
  void EndEvent(uint32_t event) override {
    if (event < kMaxEvents) ticks_[event] = Ticks() - ticks_[event];
  }
  void Clear() { count_ = 0; }
  void Print() const {
    for (uint32_t i = 0; i < count_ && i < kMaxEvents; ++i) {
      printf("op %lu %s %lu\n", static_cast<unsigned long>(i), tags_[i], static_cast<unsigned long>(ticks_[i]));
    }
  }

 private:
  uint32_t count_ = 0;
  const char* tags_[kMaxEvents];
  uint64_t ticks_[kMaxEvents];
};

Profiler profiler;

uint8_t* Aligned(uint8_t* at) { return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(at) + 15u) & ~uintptr_t{15}); }

MicroResourceVariables* Variables(MicroAllocator* allocator, uint32_t number) {
  return number == 0 ? nullptr : MicroResourceVariables::Create(allocator, static_cast<int>(number));
}

void PrintBytes(const void* data, size_t bytes) {
  static const char kDigits[] = "0123456789abcdef";
  char line[129];
  for (size_t at = 0; at < bytes;) {
    size_t used = 0;
    for (; at < bytes && used < 128; ++at) {
      const uint8_t byte = static_cast<const uint8_t*>(data)[at];
      line[used++] = kDigits[byte >> 4];
      line[used++] = kDigits[byte & 15];
    }
    line[used] = 0;
    printf("%s", line);
  }
}

void Try(const uint8_t* blob, const Entry& entry, uint8_t* arena, const MicroOpResolver& resolver) {
  const Model* model = GetModel(blob + entry.model);
  memset(arena, 0, entry.arena_bytes);
  MicroAllocator* allocator = MicroAllocator::Create(arena, entry.arena_bytes);
  if (allocator == nullptr) {
    printf("refused allocator\n");
    return;
  }
  MicroInterpreter interpreter(model, resolver, allocator, Variables(allocator, entry.variables), (entry.flags & 2) ? &profiler : nullptr);
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    printf("refused prepare\n");
    return;
  }
  printf("arena %lu\n", static_cast<unsigned long>(interpreter.arena_used_bytes()));
  const uint8_t* input = blob + entry.inputs;
  for (uint32_t run = 0; run < entry.runs; ++run) {
    const uint8_t* next = input + run * entry.input_bytes;
    for (size_t i = 0; i < interpreter.inputs_size(); ++i) {
      TfLiteTensor* tensor = interpreter.input(i);
      if (next + tensor->bytes <= input + (run + 1) * entry.input_bytes) memcpy(tensor->data.data, next, tensor->bytes);
      next += tensor->bytes;
    }
    profiler.Clear();
    if (interpreter.Invoke() != kTfLiteOk) {
      printf("refused invoke\n");
      return;
    }
    if (run == 0 && (entry.flags & 2)) profiler.Print();
    for (size_t i = 0; i < interpreter.outputs_size(); ++i) {
      printf("output %lu %lu ", static_cast<unsigned long>(run), static_cast<unsigned long>(i));
      PrintBytes(interpreter.output(i)->data.data, interpreter.output(i)->bytes);
      printf("\n");
    }
  }
}

}  // namespace

int main() {
  const uint8_t* blob = reinterpret_cast<const uint8_t*>(TINYNAS_BLOB);
  if (memcmp(blob, "TNPB", 4) != 0) {
    printf("no blob\n");
    return 3;
  }
  InitializeTarget();
  static ProbeResolver resolver;
  if (!AddProbeOperators(resolver)) {
    printf("no resolver\n");
    return 4;
  }
  uint32_t count, end;
  memcpy(&count, blob + 4, 4);
  memcpy(&end, blob + 8, 4);
  StartClock();
  for (uint32_t i = 0; i < count; ++i) {
    Entry entry;
    memcpy(&entry, blob + 16 + i * sizeof(Entry), sizeof(Entry));
    printf("model %lu\n", static_cast<unsigned long>(i));
    Try(blob, entry, Aligned(const_cast<uint8_t*>(blob) + end), resolver);
  }
  printf("done\n");
  return 0;
}
