/* @star_banner@
 *
 * Proof that this firmware computes what the model file computes: two stored images go through the whole path (image converter, network)
 * and every output byte is compared with the one TFLM's kernels gave on the host.
 * Costs about @self_test_bytes@ bytes of flash; a linker drops it where it is not called.
 */
#ifndef @GUARD@_SELF_TEST_H
#define @GUARD@_SELF_TEST_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs both images and gives `print` one line each, without the end of the line, and the bytes of the work area that were written; the last
   line is "@self_test_pass@" or "@self_test_fail@". */
bool @ns@_self_test(void (*print)(const char *line));

#ifdef __cplusplus
}
#endif

#endif
