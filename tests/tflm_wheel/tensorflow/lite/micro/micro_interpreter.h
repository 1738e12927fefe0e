#ifndef WHEEL_MICRO_INTERPRETER_H_
#define WHEEL_MICRO_INTERPRETER_H_

#include <stddef.h>
#include <stdint.h>

#include <new>

#include "tensorflow/lite/schema/schema_generated.h"

namespace tflite {

class PythonOpsResolver {  // the wheel's own: every operator
 public:
  PythonOpsResolver();
};

namespace micro {

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteUInt8 = 3, kTfLiteInt8 = 9 };
union TfLitePtrUnion {
  void* data;
};
struct TfLiteTensor {
  int32_t quantization_type;
  void* quantization_params;
  float scale;
  int32_t zero_point;
  TfLitePtrUnion data;
  void* dims;
  size_t bytes;
  TfLiteType type;
};
class MicroResourceVariables;
class MicroProfilerInterface;

class MicroOpResolver {
 protected:
  alignas(16) char storage[1 << 18];  // room for the wheel's resolver, built in place
};

template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
  MicroMutableOpResolver() { ::new (this->storage) PythonOpsResolver; }
#define WHEEL_OP(name) \
  TfLiteStatus Add##name() { return kTfLiteOk; }
  WHEEL_OP(Add) WHEEL_OP(AveragePool2D) WHEEL_OP(Conv2D) WHEEL_OP(DepthwiseConv2D) WHEEL_OP(Dequantize) WHEEL_OP(FullyConnected)
  WHEEL_OP(MaxPool2D) WHEEL_OP(Mean) WHEEL_OP(Pad) WHEEL_OP(Quantize) WHEEL_OP(Reshape) WHEEL_OP(Softmax)
#undef WHEEL_OP
};

class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& resolver, uint8_t* arena, size_t arena_size,
                   MicroResourceVariables* = nullptr, MicroProfilerInterface* = nullptr, bool preserve = false);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);
  size_t arena_used_bytes() const { return 0; }  // inlined in the real header, hence no symbol

 private:
  alignas(16) char storage[8192];  // about 200 bytes in the wheel
};

}  // namespace micro
}  // namespace tflite

#endif
