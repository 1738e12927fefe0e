/* @star_banner@
 *
 * From a microphone's samples to an answer: front end, network, answers averaged, and silence after one was told. Each frame is computed
 * once: front end and network keep what later frames need.
 * There is one listener; it is not reentrant.
 */
#ifndef @GUARD@_HEAR_H
#define @GUARD@_HEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "front_end.h"
#include "model_settings.h"

/* Answers that are averaged, one every @GUARD@_EVERY frames: more of them tell fewer falsehoods, and later. */
#ifndef @GUARD@_SMOOTHED
#define @GUARD@_SMOOTHED @smoothed@
#endif
@told_settings@

#ifdef __cplusplus
extern "C" {
#endif

/* Begins in silence, and forgets everything heard: first of all. The first answer comes after @GUARD@_FIRST frames, a clip. */
void @ns@_hear_start(void);

@told_api@

/* What classifier.c gives: the network takes a frame (@GUARD@_FEATURES bytes); 1 where there are new outputs. */
int @ns@_think(const uint8_t *frame);
/* The network begins in silence. */
void @ns@_forget(void);
@told_level@
/* The bytes of the newest frame. For tests and recordings. */
const uint8_t *@ns@_heard_frame(void);

#ifdef __cplusplus
}
#endif

#endif
