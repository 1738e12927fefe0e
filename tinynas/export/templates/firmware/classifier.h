// @banner@
// The model in four calls: Setup once, then Classify a frame and read the scores.
//
// Not reentrant: there is one interpreter and one arena (static, kTensorArenaBytes).
#ifndef @GUARD@_CLASSIFIER_H_
#define @GUARD@_CLASSIFIER_H_

#include "@input_header@"
#include "model_settings.h"

namespace @ns@ {

// Builds the interpreter. False, with the reason in the log, where the runtime refuses the model or the arena
// is too small. Calling it again is harmless.
bool Setup();

// Arena bytes really in use, once Setup has succeeded; @GUARD@_ARENA_BYTES may be lowered to this figure.
int ArenaUsedBytes();

@classify_api@

@several_api@// For callers that fill the input themselves: the tensor's elements, a run, the raw outputs. nullptr or false
// before Setup.
InputElement* Input();
bool Invoke();
const OutputElement* Output();
@kept_api@
// Of the last run. Logit is a real number; Probability is @probability_note@.
float Logit(int class_index);
float Probability(int class_index);

}  // namespace @ns@

#endif  // @GUARD@_CLASSIFIER_H_
