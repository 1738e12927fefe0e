
#if DSP
#define TAP(acc, x, w)                                                       \
  do {                                                                       \
    const uint32_t xw_ = load4(x), ww_ = load4(w);                           \
    const int32_t xe_ = EVEN(xw_), xo_ = ODD(xw_), we_ = EVEN(ww_), wo_ = ODD(ww_); \
    acc[0] = __smlabb(xe_, we_, acc[0]);                   \
    acc[1] = __smlabb(xo_, wo_, acc[1]);                   \
    acc[2] = __smlatt(xe_, we_, acc[2]);                   \
    acc[3] = __smlatt(xo_, wo_, acc[3]);                   \
  } while (0)
#else
#define TAP(acc, x, w)                                      \
  do {                                                      \
    for (int j_ = 0; j_ < 4; ++j_) acc[j_] += (x)[j_] * (w)[j_]; \
  } while (0)
#endif

/* A row of a depthwise convolution, four channels at a time over the whole row, so that y may be the first row that it reads.
   Weights lie in blocks of four channels, tap by tap; the last block is filled up with zeros. */
static void dw_row(const op_t *o, const int8_t *const *rows, int8_t *line, int8_t *y) {
  const uint32_t channels = o->in_c, kernel_h = o->kernel_h, kernel_w = o->kernel_w;
  const int8_t zero[4] = {o->zero_in, o->zero_in, o->zero_in, o->zero_in};
  const int8_t *block = o->weights;
  const int32_t *numbers = o->numbers;
  const int8_t *shifts = o->shifts;
  for (uint32_t c = 0; c < channels; c += 4, block += kernel_h * kernel_w * 4, numbers += 8, shifts += 4) {
    for (uint32_t x = 0; x < o->out_w; ++x) {
      int32_t acc[4] = {numbers[0], numbers[2], numbers[4], numbers[6]};
      const int8_t *w = block;
      const int32_t first = (int32_t)(x * o->stride_w) - o->pad_left;
      if (first >= 0 && first + (int32_t)kernel_w <= o->in_w) {
        for (uint32_t i = 0; i < kernel_h; ++i) {
          const int8_t *in = rows[i] == NULL ? zero : rows[i] + (uint32_t)first * channels + c;
          const uint32_t step = rows[i] == NULL ? 0 : channels;
          for (uint32_t j = 0; j < kernel_w; ++j, in += step, w += 4) TAP(acc, in, w);
        }
      } else {
        for (uint32_t i = 0; i < kernel_h; ++i) {
          for (int32_t at = first; at < first + (int32_t)kernel_w; ++at, w += 4) {
            const int8_t *in = rows[i] == NULL || at < 0 || at >= o->in_w ? zero : rows[i] + (uint32_t)at * channels + c;
            TAP(acc, in, w);
          }
        }
      }
      for (uint32_t j = 0; j < 4; ++j) {
        const int32_t r = rescale(acc[j], numbers[2 * j + 1], shifts[j]) + o->zero_out;
        line[4 * x + j] = (int8_t)CLAMP(r, o->low, o->high);
      }
    }
    const uint32_t n = channels - c < 4 ? channels - c : 4;
    for (uint32_t x = 0; x < o->out_w; ++x) memcpy(y + x * channels + c, line + 4 * x, n);
  }
}
