// @banner@
// SHA-256 of the .tflite: @model_sha256@
#include "model_data.h"

namespace @ns@ {

alignas(16) const uint8_t kModelData[kModelDataBytes] = {
@model_array@
};

}  // namespace @ns@
