#ifndef STUB_MICRO_MUTABLE_OP_RESOLVER_H_
#define STUB_MICRO_MUTABLE_OP_RESOLVER_H_

#include "tensorflow/lite/micro/stub_namespace.h"

STUB_TYPES_BEGIN
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
STUB_TYPES_END

STUB_BEGIN
class MicroOpResolver {
 public:
  const char* names[64];
  unsigned int count = 0;
};

// Refuses an operator too many and an operator given twice, as the real one does.
template <unsigned int tOpCount>
class MicroMutableOpResolver : public MicroOpResolver {
 public:
#define STUB_OP(name) \
  TfLiteStatus Add##name() { return Add(#name); }
  STUB_OP(Add) STUB_OP(AveragePool2D) STUB_OP(Concatenation) STUB_OP(Conv2D) STUB_OP(DepthwiseConv2D) STUB_OP(Dequantize)
  STUB_OP(FullyConnected) STUB_OP(HardSwish) STUB_OP(LeakyRelu) STUB_OP(Logistic) STUB_OP(MaxPool2D) STUB_OP(Mean) STUB_OP(Mul)
  STUB_OP(Pack) STUB_OP(Pad) STUB_OP(PadV2) STUB_OP(Quantize) STUB_OP(Relu) STUB_OP(Relu6) STUB_OP(Reshape) STUB_OP(Shape)
  STUB_OP(Softmax) STUB_OP(StridedSlice) STUB_OP(Sub) STUB_OP(Transpose)
#undef STUB_OP

 private:
  TfLiteStatus Add(const char* name) {
    for (unsigned int i = 0; i < count; ++i) {
      if (names[i] == name) return kTfLiteError;
    }
    if (count >= tOpCount) return kTfLiteError;
    names[count++] = name;
    return kTfLiteOk;
  }
};
STUB_END

#endif
