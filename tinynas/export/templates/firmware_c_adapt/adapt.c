/* @star_banner@ */
#include "adapt.h"

#include <stdio.h>
#include <string.h>

#include "adapt_data.h"
#include "classifier.h"
#include "self_test_data.h"

@exact@
@core@
/* What the network keeps of the frame that it has just seen. */
static bool Look(const @ns@_frame_t *frame) {
  if (@ns@_classify(frame, @GUARD@_LIKE_TRAINING) < 0) return false;
  for (uint32_t i = 0; i < kKept; ++i) kept[i] = @ns@_kept((int)i);
  return true;
}

void @ns@_adapt_begin(void) { Begin(); }

bool @ns@_adapt_step(const @ns@_frame_t *frame, int label, float new_rate) { return begun && Look(frame) && Learn(label, new_rate); }

bool @ns@_adapt_replay(int number, float new_rate) {
  if (number < 0 || number >= @GUARD@_ADAPT_REPLAYS) return false;
  KeptOf(@ns@_adapt_replay_bytes + number * @GUARD@_ADAPT_KEPT_BYTES);
  return Learn(@ns@_adapt_replay_labels[number], new_rate);
}

bool @ns@_adapt_step_kept(const int8_t *block, int label, float new_rate) {
  KeptOf(block);
  return block != NULL && Learn(label, new_rate);
}

void @ns@_adapt_flush(float new_rate) {
  rate = new_rate;
  if (waiting != 0) Apply();
}

int @ns@_adapt_answer(const @ns@_frame_t *frame) { return begun && Look(frame) ? Answer() : -1; }

float @ns@_adapt_probability(int class_index) {
  if (!answered || class_index < 0 || class_index >= @GUARD@_CLASSES) return 0.0f;
  return memory[values[kOutput].gradient + class_index];
}

bool @ns@_adapt_keep(int8_t *to) {
  for (uint32_t i = 0; i < kKept; ++i) {
    const int8_t *from = @ns@_kept((int)i);
    if (from == NULL || to == NULL) return false;
    memcpy(to, from, kept_bytes[i]);
    to += kept_bytes[i];
  }
  return true;
}

size_t @ns@_adapt_save(uint8_t *blob, size_t room) { return Save(blob, room < 0x7fffffffu ? (uint32_t)room : 0x7fffffffu); }

bool @ns@_adapt_restore(const uint8_t *blob, size_t bytes) { return Restore(blob, bytes < 0x7fffffffu ? (uint32_t)bytes : 0x7fffffffu); }

bool @ns@_adapt_self_test(void (*print)(const char *line)) {
  char line[120];
  bool passed = true;
  Begin();
  snprintf(line, sizeof line, "@ns@ adapt self-test: memory of learning %lu bytes", (unsigned long)sizeof memory);
  print(line);
  for (int i = 0; passed && i < @GUARD@_ADAPT_TEST_STEPS; ++i) {
    const @ns@_adapt_test_t *test = &@ns@_adapt_test[i];
    const @ns@_frame_t frame = {@ns@_self_test_pixels[test->image], @GUARD@_WIDTH, @GUARD@_HEIGHT, @self_test_format@, 0};
    const bool stepped = @ns@_adapt_step(&frame, test->label, test->rate);
    const bool equal = stepped && Learned(2166136261u) == test->sum;
    snprintf(line, sizeof line, "@ns@ adapt self-test: step %d, %s", i,
             equal ? "every parameter equal" : stepped ? "parameters differ" : "refused");
    print(line);
    passed = passed && equal;
  }
  if (passed) Begin();
  print(passed ? "@ns@ adapt self-test: PASS" : "@ns@ adapt self-test: FAIL");
  return passed;
}
