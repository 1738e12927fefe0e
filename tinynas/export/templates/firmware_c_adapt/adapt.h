/* @star_banner@
 *
 * Learning on the board: @learned_words@.
 *
 * Begin once, then give frames with their classes: each step moves the weights a little. @ns@_adapt_answer says what the network makes of a
 * frame by what it has learned; @ns@_classify goes on to answer by the network as it was exported. @memory_words@
 * Step by step the same as `tinynas adapt run` with learning.mode=board computes, up to the rounding of its sums: @ns@_adapt_self_test proves
 * that a board gives the very bits that were worked out beforehand. Not reentrant, as the classifier.
 */
#ifndef @GUARD@_ADAPT_H
#define @GUARD@_ADAPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image_input.h"
#include "model_settings.h"

#ifdef __cplusplus
extern "C" {
#endif

@adapt_constants@/* The rate to begin with, and what the exported settings were: @schedule_words@. */
#define @GUARD@_ADAPT_RATE @rate@
/* Bytes that the network makes of a frame, and that learning reads: a frame can be learned again from them alone. */
#define @GUARD@_ADAPT_KEPT_BYTES @kept_bytes@
/* Old inputs that lie in flash in that form, to be learned again against forgetting. */
#define @GUARD@_ADAPT_REPLAYS @replays@

/* Weights as they were exported; what was learned is gone. */
void @ns@_adapt_begin(void);

/* One step from a frame of class `label` (0 to @GUARD@_CLASSES - 1). False before begin, for a frame or a label that cannot be, and where
   the weights are no longer numbers: restore what was saved, and lower the rate. */
bool @ns@_adapt_step(const @ns@_frame_t *frame, int label, float rate);
/* The same of the old input `number` in flash, or of @GUARD@_ADAPT_KEPT_BYTES bytes that @ns@_adapt_keep wrote. */
bool @ns@_adapt_replay(int number, float rate);
bool @ns@_adapt_step_kept(const int8_t *kept, int label, float rate);
/* With more than one input a step: the end of a pass, where fewer than @batch@ are left. */
void @ns@_adapt_flush(float rate);

/* The class of a frame by what was learned, or -1; the probability of a class in that answer. */
int @ns@_adapt_answer(const @ns@_frame_t *frame);
float @ns@_adapt_probability(int class_index);
/* Writes the kept bytes of the last frame that was answered, learned or classified. False where there was none. */
bool @ns@_adapt_keep(int8_t *kept);

/* What was learned as one blob of @GUARD@_ADAPT_BLOB_BYTES bytes, for flash; it fits this very export alone. save gives the bytes written,
   or 0. restore begins anew with it; false, and nothing changed, where it is damaged or of another network. Words of 32 bits, low byte
   first: the letters TNAd, a key of the network, the number of parameters, the parameters as float32 (of each operator weights, then
   biases), FNV-1a of all before. */
size_t @ns@_adapt_save(uint8_t *blob, size_t room);
bool @ns@_adapt_restore(const uint8_t *blob, size_t bytes);

/* Learns the two images of the self-test for a few steps and compares every parameter with what was worked out on the host, bit for bit.
   Then it begins anew: run it before anything is learned. Gives `print` a line for each step and a last one,
   "@ns@ adapt self-test: PASS" or FAIL. */
bool @ns@_adapt_self_test(void (*print)(const char *line));

#ifdef __cplusplus
}
#endif

#endif
