/* @star_banner@
 *
 * The log ends in "@self_test_pass@".
 */
#include <stdio.h>

#include "self_test.h"

static void print(const char *line) { puts(line); }

void app_main(void) { @ns@_self_test(print); }
