// Several classes may be there at once, or none: whether this one was in the last run, its output at least kThresholds[class_index].
bool Present(int class_index);

