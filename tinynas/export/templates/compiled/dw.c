
#if MVE
#define TAP(x, w) acc = vaddq_s32(acc, vmulq_s32(vldrbq_s32(x), vldrbq_s32(w)))
#elif DSP
#define TAP(x, w)                              \
  do {                                         \
    const uint32_t xw_ = load4(x), ww_ = load4(w); \
    const int32_t xe_ = EVEN(xw_), xo_ = ODD(xw_), we_ = EVEN(ww_), wo_ = ODD(ww_); \
    a0 = __smlabb(xe_, we_, a0);               \
    a1 = __smlabb(xo_, wo_, a1);               \
    a2 = __smlatt(xe_, we_, a2);               \
    a3 = __smlatt(xo_, wo_, a3);               \
  } while (0)
#else
#define TAP(x, w)         \
  do {                    \
    a0 += (x)[0] * (w)[0]; \
    a1 += (x)[1] * (w)[1]; \
    a2 += (x)[2] * (w)[2]; \
    a3 += (x)[3] * (w)[3]; \
  } while (0)
#endif

/* A row of a depthwise convolution, four channels at a time over the whole row, so that y may be the first row that it reads.
   Weights lie in blocks of four channels, tap by tap; the last block is filled up with zeros. */
static void dw_row(const op_t *o, const int8_t *const *rows, int8_t *line, int8_t *y) {
  const uint32_t channels = o->in_c, kernel_h = o->kernel_h, kernel_w = o->kernel_w;
  const int32_t twice = 2 * o->zero_out + 1, low = o->low, high = o->high;
  const int8_t zero[4] = {o->zero_in, o->zero_in, o->zero_in, o->zero_in};
  const int8_t *block = o->weights;
  const int32_t *numbers = o->numbers;
  const int8_t *shifts = o->shifts;
  for (uint32_t c = 0; c < channels; c += 4, block += kernel_h * kernel_w * 4, numbers += 8, shifts += 4) {
    int8_t *to = line;
    int32_t first = -(int32_t)o->pad_left;
    for (uint32_t x = 0; x < o->out_w; ++x, first += o->stride_w, to += 4) {
      int32_t a0 = numbers[0], a1 = numbers[2], a2 = numbers[4], a3 = numbers[6];
#if MVE
      int32x4_t acc = {a0, a1, a2, a3};
#endif
      const int8_t *w = block;
      if (first >= 0 && first + (int32_t)kernel_w <= o->in_w) {
        for (uint32_t i = 0; i < kernel_h; ++i) {
          const int8_t *in = rows[i] == NULL ? zero : rows[i] + (uint32_t)first * channels + c;
          const uint32_t step = rows[i] == NULL ? 0 : channels;
          uint32_t left = kernel_w;
          if (left == 3) {
            TAP(in, w);
            TAP(in + step, w + 4);
            TAP(in + 2 * step, w + 8);
            w += 12;
          } else {
            for (; left > 0; --left, in += step, w += 4) TAP(in, w);
          }
        }
      } else {
        for (uint32_t i = 0; i < kernel_h; ++i) {
          for (int32_t at = first; at < first + (int32_t)kernel_w; ++at, w += 4) {
            const int8_t *in = rows[i] == NULL || at < 0 || at >= o->in_w ? zero : rows[i] + (uint32_t)at * channels + c;
            TAP(in, w);
          }
        }
      }
#if MVE
      a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
#endif
      a0 = output(a0, numbers[1], shifts[0], twice);
      a1 = output(a1, numbers[3], shifts[1], twice);
      a2 = output(a2, numbers[5], shifts[2], twice);
      a3 = output(a3, numbers[7], shifts[3], twice);
      to[0] = (int8_t)CLAMP(a0, low, high);
      to[1] = (int8_t)CLAMP(a1, low, high);
      to[2] = (int8_t)CLAMP(a2, low, high);
      to[3] = (int8_t)CLAMP(a3, low, high);
    }
    const uint32_t n = channels - c < 4 ? channels - c : 4;
    for (uint32_t x = 0; x < o->out_w; ++x) {
      for (uint32_t j = 0; j < n; ++j) y[x * channels + c + j] = line[4 * x + j];
    }
  }
}
