/* @star_banner@ */
#include "model_settings.h"

const char *const @ns@_labels[@GUARD@_CLASSES] = {
@labels@
};
