#ifndef STUB_SYSTEM_SETUP_H_
#define STUB_SYSTEM_SETUP_H_

#include "tensorflow/lite/micro/stub_namespace.h"

STUB_BEGIN
void InitializeTarget();
STUB_END

#endif
