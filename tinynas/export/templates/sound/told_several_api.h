/* Takes `count` samples (int16, one channel, @GUARD@_SAMPLE_RATE a second), as many and as often as a driver has them. Answers the surest
   of the classes that the newest inference within them finds there, 0 to @classes_words@, or -1: there was none, or no class is there.
   Several may be there at once: ask @ns@_there for each. It is told again with every inference. */
int @ns@_hear(const int16_t *samples, int count);

/* 1 where a class is there: its average over the last answers is at least its threshold. */
int @ns@_there(int class_index);

/* How far that average lies above the threshold, in steps of the outputs; below it, it is negative. */
int @ns@_score(int class_index);
