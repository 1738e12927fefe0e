// @banner@
// The .tflite file as a constant array, 16-byte aligned as the interpreter needs it.
#ifndef @GUARD@_MODEL_DATA_H_
#define @GUARD@_MODEL_DATA_H_

#include <stdint.h>

namespace @ns@ {

extern const uint8_t kModelData[];
constexpr uint32_t kModelDataBytes = @model_bytes@;

}  // namespace @ns@

#endif  // @GUARD@_MODEL_DATA_H_
