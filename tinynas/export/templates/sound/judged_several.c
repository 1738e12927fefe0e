/* The lowest step of an output: scores count from it. */
#define LOWEST (@lowest@)
static const int16_t thresholds[CLASSES] = @GUARD@_THRESHOLDS;

/* How far a class's average lies above its threshold, times the number of answers. */
static int32_t above(int class_index, int32_t *count) {
  const int32_t sum = total(class_index, count);
  return sum - *count * (thresholds[class_index] - LOWEST);
}

int @ns@_there(int class_index) {
  int32_t count;
  if (class_index < 0 || class_index >= CLASSES) return 0;
  const int32_t margin = above(class_index, &count);
  return count > 0 && margin >= 0;
}

int @ns@_score(int class_index) {
  int32_t count;
  if (class_index < 0 || class_index >= CLASSES) return 0;
  const int32_t margin = above(class_index, &count);
  return count == 0 ? 0 : (int)(margin / count);
}

/* The class to tell after an inference, or -1. */
static int judged(void) {
  int32_t count, most = -1;
  int best = -1;
  uint8_t *scores = ear.scores + ear.answers % @GUARD@_SMOOTHED * CLASSES;
  for (int i = 0; i < CLASSES; ++i) scores[i] = (uint8_t)(@ns@_level(i) - LOWEST);
  if (++ear.answers == 2 * @GUARD@_SMOOTHED) ear.answers = @GUARD@_SMOOTHED;
  for (int i = 0; i < CLASSES; ++i) {
    const int32_t margin = above(i, &count);
    if (margin > most) {
      most = margin;
      best = i;
    }
  }
  return best;
}
