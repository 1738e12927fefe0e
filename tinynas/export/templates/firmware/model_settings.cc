// @banner@
#include "model_settings.h"

namespace @ns@ {

const char* const kLabels[kClasses] = {
@labels@
};
@pixel_table@
}  // namespace @ns@
