/* @star_banner@
 *
 * Everything the code around the network must know about it. network.h says the rest: @GUARD@_@height_name@, _WIDTH, _CHANNELS, _OUTPUTS, the
 * scale of the outputs, and @GUARD@_WORK_BYTES, the memory that it works in.
 * Same numbers as the .tflite with SHA-256 @model_sha256@.
 */
#ifndef @GUARD@_SETTINGS_H
#define @GUARD@_SETTINGS_H

#include <stdint.h>

#include "network.h"

#ifdef __cplusplus
extern "C" {
#endif

@input_note@
@rotation_lines@
/* Output: one logit a class. */
#define @GUARD@_CLASSES @GUARD@_OUTPUTS
extern const char *const @ns@_labels[@GUARD@_CLASSES];
@threshold_settings@@several_settings@
/* The linker section of the work area, where a board has several memories: -D@GUARD@_ARENA_SECTION='".bss.fast"'. A section whose name
   does not begin with .bss may take as much flash, for zeros, unless the linker script says NOLOAD. */
@arena_section@

#ifdef __cplusplus
}
#endif

#endif
