// @banner@
// The self-test as a program for the host or an emulator: exit status 0 where it passes.
#include "self_test.h"

int main() { return @ns@::SelfTest() ? 0 : 1; }
