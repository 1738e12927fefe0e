/* @star_banner@
 *
 * The self-tests of the network and of its learning as a program for the host or an emulator: exit status 0 where both pass.
 */
#include <stdio.h>

#include "adapt.h"
#include "self_test.h"

static void print(const char *line) { puts(line); }

int main(void) { return @ns@_self_test(print) && @ns@_adapt_self_test(print) ? 0 : 1; }
