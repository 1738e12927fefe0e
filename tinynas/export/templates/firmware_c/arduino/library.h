/* @star_banner@ */
#ifndef @GUARD@_LIBRARY_H
#define @GUARD@_LIBRARY_H

#include "classifier.h"
@more_includes@#include "self_test.h"

#endif
