// @banner@
// The self-tests of the network and of its learning as a program for the host or an emulator: exit status 0 where both pass.
#include "adapt.h"
#include "self_test.h"

int main() { return @ns@::SelfTest() && @ns@::AdaptSelfTest() ? 0 : 1; }
