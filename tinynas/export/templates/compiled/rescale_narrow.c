
/* The same where |x| < 2^30 and nothing is shifted left: nothing overflows. */
static inline int32_t rescale(int32_t x, int32_t multiplier, int32_t shift) {
#if DSP
  int32_t high; /* the upper word of the product, rounded */
  __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(x * 2), "r"(multiplier));
#else
  const int32_t high = (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
#endif
  return shift > 0 ? (high + (1 << (shift - 1)) - (high < 0)) >> shift : high;
}
