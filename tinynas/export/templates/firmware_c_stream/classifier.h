/* @star_banner@
 *
 * The network and its scores; hear.h gives it the frames. Outputs are those of the last @GUARD@_FRAMES frames.
 * There is one network, @GUARD@_WORK_BYTES bytes. For several, call network.h with some of your own.
 */
#ifndef @GUARD@_CLASSIFIER_H
#define @GUARD@_CLASSIFIER_H

#include "hear.h"
#include "model_settings.h"

#ifdef __cplusplus
extern "C" {
#endif

/* @answer_words@ of the newest outputs alone, or -1 before the first ones. */
int @ns@_answer(void);

@several_api@/* Of the newest outputs. The logit is a real number; the probability is @probability_note@. */
float @ns@_logit(int class_index);
float @ns@_probability(int class_index);

/* The newest outputs, each (real / @GUARD@_OUTPUT_SCALE + @GUARD@_OUTPUT_ZERO_POINT); null before the first ones. */
const int8_t *@ns@_output(void);

/* The network with all that it keeps. */
@ns@_t *@ns@_network(void);

#ifdef __cplusplus
}
#endif

#endif
