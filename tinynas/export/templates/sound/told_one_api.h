/* Takes `count` samples (int16, one channel, @GUARD@_SAMPLE_RATE a second), as many and as often as a driver has them. Answers the class
   that was heard within them, 0 to @classes_words@, or -1: not yet, not surely enough, or too soon after the last one. */
int @ns@_hear(const int16_t *samples, int count);

/* Average of a class over the last answers, in percent. */
int @ns@_score(int class_index);
