
/* From the integer network on all frames at once: of the last @GUARD@_FRAMES, after @self_test_further@ more. */
const int8_t @ns@_self_test_later[@GUARD@_CLASSES] = {@self_test_later@};
