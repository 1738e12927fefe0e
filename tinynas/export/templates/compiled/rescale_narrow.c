
/* x * multiplier / 2^31, rounded to the nearest, halves upwards, for |x| < 2^30. */
static inline int32_t upper(int32_t x, int32_t multiplier) {
#if DSP
  int32_t high;
  __asm__("smmulr %0, %1, %2" : "=r"(high) : "r"(x * 2), "r"(multiplier));
  return high;
#else
  return (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
#endif
}
