#ifndef WHEEL_MICRO_LOG_H_
#define WHEEL_MICRO_LOG_H_

#include <stdio.h>

#define MicroPrintf(...) (printf(__VA_ARGS__), printf("\n"), fflush(stdout))

#endif
