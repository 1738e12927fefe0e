
/* A sum as a number of the output; `twice` is 2 * zero point + 1. */
static inline int32_t output(int32_t sum, int32_t multiplier, int32_t shift, int32_t twice) {
  return rescale_wide(sum, multiplier, shift + 1) + (twice - 1) / 2;
}
