
/* A sum as a number of the output: times multiplier / 2^(32 + shift), rounded twice as TFLM does, and the zero point, where
   `twice` is 2 * zero point + 1: floor((x + 2^s) / 2^(s + 1)) + z = floor((floor(x / 2^s) + 1 + 2 z) / 2). */
static inline int32_t output(int32_t sum, int32_t multiplier, int32_t shift, int32_t twice) {
  int32_t high = upper(sum, multiplier);
  high += high >> 31;
  return ((high >> shift) + twice) >> 1;
}
