/* @star_banner@
 *
 * The self-test as a program for the host or an emulator: exit status 0 where it passes.
 */
#include <stdio.h>

#include "self_test.h"

static void print(const char *line) { puts(line); }

int main(void) { return @ns@_self_test(print) ? 0 : 1; }
