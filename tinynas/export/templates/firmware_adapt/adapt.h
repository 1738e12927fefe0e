// @banner@
// Learning on the board: @learned_words@.
//
// Begin once, then give frames with their classes: each Step moves the weights a little. AdaptAnswer says what the network makes of a
// frame by what it has learned; Classify goes on to answer by the model as it was exported. @memory_words@
// Step by step the same as `tinynas adapt run` with learning.mode=board computes, up to the rounding of its sums: AdaptSelfTest proves
// that a board gives the very bits that were worked out beforehand. Not reentrant, as the classifier.
#ifndef @GUARD@_ADAPT_H_
#define @GUARD@_ADAPT_H_

#include <stddef.h>
#include <stdint.h>

#include "image_input.h"
#include "model_settings.h"

@adapt_constants@
namespace @ns@ {

// The rate to begin with, and what the exported settings were: @schedule_words@.
constexpr float kAdaptRate = @rate@;
// Bytes that the network makes of a frame, and that learning reads: a frame can be learned again from them alone.
constexpr int kAdaptKeptBytes = @kept_bytes@;
// Old inputs that lie in flash in that form, to be learned again against forgetting.
constexpr int kAdaptReplays = @replays@;
// What AdaptSave writes.
constexpr int kAdaptBlobBytes = @GUARD@_ADAPT_BLOB_BYTES;

// Weights as they were exported; what was learned is gone. Setup, of classifier.h, has to be there. False where it fails.
bool AdaptBegin();

// One step from a frame of class `label` (0 to kClasses - 1). False before AdaptBegin, for a frame or a label that cannot be, and where the
// weights are no longer numbers: restore what was saved, and lower the rate.
bool AdaptStep(const Frame& frame, int label, float rate = kAdaptRate);
// The same of the old input `number` in flash, or of kAdaptKeptBytes that AdaptKeep wrote.
bool AdaptReplay(int number, float rate = kAdaptRate);
bool AdaptStepKept(const int8_t* kept, int label, float rate = kAdaptRate);
// With more than one input a step: the end of a pass, where fewer than @batch@ are left.
void AdaptFlush(float rate = kAdaptRate);

// The class of a frame by what was learned, or -1; the probability of a class in that answer.
int AdaptAnswer(const Frame& frame);
float AdaptProbability(int class_index);
// Writes the kAdaptKeptBytes of the last frame that was answered, learned or classified. False where there was none.
bool AdaptKeep(int8_t* kept);

// What was learned as one blob, for flash; it fits this very export alone. Save gives the bytes written, or 0. Restore begins anew with it;
// false, and nothing changed, where it is damaged or of another network. Words of 32 bits, low byte first: the letters TNAd, a key of the
// network, the number of parameters, the parameters as float32 (of each operator weights, then biases), FNV-1a of all before.
size_t AdaptSave(uint8_t* blob, size_t room);
bool AdaptRestore(const uint8_t* blob, size_t bytes);

// Learns the two images of the self-test for a few steps and compares every parameter with what was worked out on the host, bit for bit.
// Then it begins anew: run it before anything is learned. One line for each step and a last one go to TFLM's log:
// "@ns@ adapt self-test: PASS" or FAIL.
bool AdaptSelfTest();

}  // namespace @ns@

#endif  // @GUARD@_ADAPT_H_
