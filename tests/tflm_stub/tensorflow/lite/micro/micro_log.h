#ifndef STUB_MICRO_LOG_H_
#define STUB_MICRO_LOG_H_

#include "tensorflow/lite/micro/stub_namespace.h"

STUB_TYPES_BEGIN
void MicroPrintf(const char* format, ...) __attribute__((format(printf, 1, 2)));
STUB_TYPES_END

#endif
