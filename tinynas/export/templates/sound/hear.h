/* @star_banner@
 *
 * From a microphone's samples to an answer: @heard_line@
 * There is one listener; it is not reentrant.
 */
#ifndef @GUARD@_HEAR_H
#define @GUARD@_HEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "front_end.h"
#include "model_settings.h"

@hop_setting@/* Answers that are averaged@answers_note@: more of them tell fewer falsehoods, and later. */
#ifndef @GUARD@_SMOOTHED
#define @GUARD@_SMOOTHED @smoothed@
#endif
@told_settings@

#ifdef __cplusplus
extern "C" {
#endif

/* @start_note@ */
void @ns@_hear_start(void);

@told_api@

@heard_api@

#ifdef __cplusplus
}
#endif

#endif
