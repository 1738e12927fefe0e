/* @star_banner@
 *
 * Proof that this firmware hears what the network was made to hear: a stored sound, repeated for a clip, goes through the whole path (front
 * end, network); every byte of its frames and every output byte is compared with those on the host.
@further_note@ * Costs about @self_test_bytes@ bytes of flash; a linker drops it where it is not called.
 */
#ifndef @GUARD@_SELF_TEST_H
#define @GUARD@_SELF_TEST_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Gives `print` some lines, without the end of the line; the last one is "@self_test_pass@" or "@self_test_fail@".
   What was heard before is forgotten. */
bool @ns@_self_test(void (*print)(const char *line));

#ifdef __cplusplus
}
#endif

#endif
