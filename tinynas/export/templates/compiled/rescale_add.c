
/* The same, and behind a right shift rounded once more, halves away from zero. */
static inline int32_t rescale(int32_t x, int32_t multiplier, int32_t shift) {
  const int32_t high = upper(x, multiplier);
  return shift > 0 ? (high + (1 << (shift - 1)) - (high < 0)) >> shift : high;
}
