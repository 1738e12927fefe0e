// @banner@
#ifndef @GUARD@_H_
#define @GUARD@_H_

#include "classifier.h"
#include "self_test.h"

#endif  // @GUARD@_H_
