/* @star_banner@
 *
 * From a microphone's samples to an answer: front end, ring of frames, network, answers averaged, and silence after one was told.
 * There is one listener; it is not reentrant.
 */
#ifndef @GUARD@_HEAR_H
#define @GUARD@_HEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "front_end.h"
#include "model_settings.h"

/* Frames from one inference to the next: each of them answers for the @GUARD@_FRAMES frames of a clip. */
#ifndef @GUARD@_HOP
#define @GUARD@_HOP @hop@
#endif
/* Answers that are averaged: more of them tell fewer falsehoods, and later. */
#ifndef @GUARD@_SMOOTHED
#define @GUARD@_SMOOTHED @smoothed@
#endif
@told_settings@

#ifdef __cplusplus
extern "C" {
#endif

/* Forgets everything heard. */
void @ns@_hear_start(void);

@told_api@

/* What classifier.* gives: the network over the ring of frames, of which `oldest` is the first one; 1 where it ran. */
int @ns@_think(const uint8_t *ring, int oldest);
/* Probability of a class, 0 to 1. */
float @ns@_chance(int class_index);
@told_level@
/* The bytes of the last clip: frame 0 is the oldest. For tests and recordings. */
const uint8_t *@ns@_heard_frame(int frame);

#ifdef __cplusplus
}
#endif

#endif
