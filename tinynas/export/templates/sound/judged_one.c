int @ns@_score(int class_index) {
  int32_t count;
  if (class_index < 0 || class_index >= CLASSES) return 0;
  const int32_t sum = total(class_index, &count);
  return count == 0 ? 0 : (int)((100 * sum + 255 * count / 2) / (255 * count));
}

/* The class to tell after an inference, or -1. */
static int judged(void) {
  int32_t count, most = -1;
  int best = 0;
  uint8_t *scores = ear.scores + ear.answers % @GUARD@_SMOOTHED * CLASSES;
  @score_line@
  if (++ear.answers == 2 * @GUARD@_SMOOTHED) ear.answers = @GUARD@_SMOOTHED;
  for (int i = 0; i < CLASSES; ++i) {
    const int32_t sum = total(i, &count);
    if (sum > most) {
      most = sum;
      best = i;
    }
  }
  if (ear.quiet > 0 || 100 * most < @GUARD@_THRESHOLD * 255 * count) return -1;@passive_line@
  ear.quiet = @GUARD@_REFRACTORY;
  return best;
}
