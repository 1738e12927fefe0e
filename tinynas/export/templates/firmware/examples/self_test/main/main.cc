// @banner@
// The log ends in "@self_test_pass@".
#include "self_test.h"

extern "C" void app_main() { @ns@::SelfTest(); }
