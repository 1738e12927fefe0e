
/* A sum as a number of the output; `twice` is 2 * zero point + 1. From a shift of 0 on as other networks do: times
   multiplier / 2^(32 + shift), rounded twice as TFLM does. Below it is rounded once. Called, not copied to each of its places: so the
   code is no larger than theirs. */
static APART int32_t output(int32_t sum, int32_t multiplier, int32_t shift, int32_t twice) {
  if (shift < 0) return upper(sum * (1 << (-1 - shift)), multiplier) + (twice >> 1);
  int32_t high = upper(sum, multiplier);
  high += high >> 31;
  return ((high >> shift) + twice) >> 1;
}
