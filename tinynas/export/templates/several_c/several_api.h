/* Several classes may be there at once, or none: 1 where this one was in the last frame, its output at least its threshold. */
int @ns@_present(int class_index);

