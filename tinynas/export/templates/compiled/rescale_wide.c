
/* x * multiplier / 2^(31 + shift): rounded to the nearest, halves upwards; and behind a right shift once more, away from zero. */
static inline int32_t rescale_wide(int32_t x, int32_t multiplier, int32_t shift) {
  const int64_t left = shift < 0 ? (int64_t)x * ((int64_t)1 << -shift) : x;
  const int64_t high = (left * multiplier + (1 << 30)) >> 31;
  const int64_t result = shift > 0 ? (high + ((int64_t)1 << (shift - 1)) - (high < 0)) >> shift : high;
  return (int32_t)CLAMP(result, -(1 << 30), 1 << 30); /* far outside of any output */
}
