
#if DSP && !MVE
/* The same, and a pair of numbers more. */
static inline int32_t even_from(int32_t pair, uint32_t word) {
  int32_t sum;
  __asm__("sxtab16 %0, %1, %2" : "=r"(sum) : "r"(pair), "r"(word));
  return sum;
}
static inline int32_t odd_from(int32_t pair, uint32_t word) {
  int32_t sum;
  __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(sum) : "r"(pair), "r"(word));
  return sum;
}
#endif

#if MVE
#define TAP(x, w) acc = vaddq_s32(acc, vmulq_s32(vsubq_n_s32(vldrbq_s32(x), zero), vldrbq_s32(w)))
#elif DSP
#define TAP(x, w)                              \
  do {                                         \
    const uint32_t xw_ = load4(x), ww_ = load4(w); \
    const int32_t xe_ = even_from(zeros, xw_), xo_ = odd_from(zeros, xw_), we_ = EVEN(ww_), wo_ = ODD(ww_); \
    a0 = __smlabb(xe_, we_, a0);               \
    a1 = __smlabb(xo_, wo_, a1);               \
    a2 = __smlatt(xe_, we_, a2);               \
    a3 = __smlatt(xo_, wo_, a3);               \
  } while (0)
#else
#define TAP(x, w)                    \
  do {                               \
    a0 += ((x)[0] - zero) * (w)[0];  \
    a1 += ((x)[1] - zero) * (w)[1];  \
    a2 += ((x)[2] - zero) * (w)[2];  \
    a3 += ((x)[3] - zero) * (w)[3];  \
  } while (0)
#endif

/* A row of a depthwise convolution, four channels at a time over the whole row, so that y may be the first row that it reads.
   Weights lie in blocks of four channels, tap by tap; the last block is filled up with zeros. What lies outside of the map is left out. */
static APART void dw_row(const op_t *o, const int8_t *const *rows, int8_t *line, int8_t *y) {
  const uint32_t channels = o->in_c, kernel_h = o->kernel_h, kernel_w = o->kernel_w;
  const int32_t twice = 2 * o->zero_out + 1, low = o->low, high = o->high, zero = o->zero_in;
#if DSP && !MVE
  const int32_t zeros = (int32_t)(((uint32_t)-zero & 0xffffu) * 0x10001u);
#endif
  @dw_weights@
  const int32_t *numbers = o->numbers;
  const int8_t *shifts = o->shifts;
  for (uint32_t c = 0; c < channels; c += 4, @dw_next@, numbers += 8, shifts += 4) {
    @dw_block@int8_t *to = line;
    int32_t first = -(int32_t)o->pad_left;
    for (uint32_t x = 0; x < o->out_w; ++x, first += o->stride_w, to += 4) {
      int32_t a0 = numbers[0], a1 = numbers[2], a2 = numbers[4], a3 = numbers[6];
#if MVE
      int32x4_t acc = {a0, a1, a2, a3};
#endif
      const uint32_t before = first < 0 ? (uint32_t)-first : 0, from = first < 0 ? 0 : (uint32_t)first;
      const int32_t behind = first + (int32_t)kernel_w - o->in_w;
      const uint32_t inside = kernel_w - before - (behind > 0 ? (uint32_t)behind : 0);
      const int8_t *w = block + before * 4;
      for (uint32_t i = 0; i < kernel_h; ++i, w += kernel_w * 4) {
        if (rows[i] == NULL) continue;
        const int8_t *in = rows[i] + from * channels + c, *taps = w;
        if (inside == 3) {
          TAP(in, taps);
          TAP(in + channels, taps + 4);
          TAP(in + 2 * channels, taps + 8);
        } else {
          for (uint32_t left = inside; left > 0; --left, in += channels, taps += 4) TAP(in, taps);
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
    int8_t *out = y + c;
    for (const int8_t *from = line; from < to; from += 4, out += channels) {
      if (n == 4) {
        memcpy(out, from, 4);
      } else {
        for (uint32_t j = 0; j < n; ++j) out[j] = from[j];
      }
    }
  }
}
