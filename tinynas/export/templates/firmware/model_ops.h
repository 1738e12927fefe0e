// @banner@
// The operators this model uses and no others: each one more would cost flash.
#ifndef @GUARD@_MODEL_OPS_H_
#define @GUARD@_MODEL_OPS_H_

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
@int8_includes@
#include "model_settings.h"

// Interpreters of 2026 live in tflite::micro, older ones in tflite: @ns@::runtime names both.
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace @ns@ {
namespace runtime {
using namespace tflite;         // NOLINT
using namespace tflite::micro;  // NOLINT
}  // namespace runtime
@int8_functions@
using OpResolver = runtime::MicroMutableOpResolver<kOperators>;

// False where an operator could not be added.
inline bool AddOperators(OpResolver& resolver) {
  using namespace tflite;         // NOLINT  kTfLiteOk is global in older interpreters
  using namespace tflite::micro;  // NOLINT
@add_operators@
}

}  // namespace @ns@

#endif  // @GUARD@_MODEL_OPS_H_
