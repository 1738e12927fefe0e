/* @star_banner@
 *
 * @classifier_note@
 * There is one @work_what@, @GUARD@_WORK_BYTES bytes. For several, call network.h with some of your own.
 */
#ifndef @GUARD@_CLASSIFIER_H
#define @GUARD@_CLASSIFIER_H

#include "@input_header@"
#include "model_settings.h"

#ifdef __cplusplus
extern "C" {
#endif

@classify_api@@classifier_api@/* @answer_words@ of the @outputs_what@, or -1 where there was none. */
int @ns@_answer(void);

@several_api@/* Of the @outputs_what@. The logit is a real number; the probability is @probability_note@. */
float @ns@_logit(int class_index);
float @ns@_probability(int class_index);

/* The raw outputs of the @outputs_what@, each (real / @GUARD@_OUTPUT_SCALE + @GUARD@_OUTPUT_ZERO_POINT); null where there was none. */
const int8_t *@ns@_output(void);
@kept_api@
/* @network_note@ */
@ns@_t *@ns@_network(void);

#ifdef __cplusplus
}
#endif

#endif
