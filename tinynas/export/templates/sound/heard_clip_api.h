/* What classifier.* gives: the network over the ring of frames, of which `oldest` is the first one; 1 where it ran. */
int @ns@_think(const uint8_t *ring, int oldest);
/* Probability of a class, 0 to 1. */
float @ns@_chance(int class_index);
@told_level@
/* The bytes of the last clip: frame 0 is the oldest. For tests and recordings. */
const uint8_t *@ns@_heard_frame(int frame);
