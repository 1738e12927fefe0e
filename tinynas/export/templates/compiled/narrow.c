
/* The same for weights of @bits@ bits, which are taken out of their bytes where they are multiplied: no memory is needed for them, and an
   instruction more for four of them. A word of a row has @group@: byte j the numbers j, j + 4 and so on, from its lowest bits up; what is
   left of the row follows in order. DSP and MVE multiply what lies in the highest bits of a byte, 2^@up@ times the weight. */
#if DSP && !MVE
/* The next four weights in order: 0 and 1 in byte 0 of a word, 2 and 3 in byte 2. */
static inline uint32_t spread@bits@(const int8_t *w) {
@spread@
}
#endif

static void dense@bits@_pixels(const op_t *o, uint32_t k, const int8_t *x, uint32_t step, int8_t *y, int8_t *to) {
  const int32_t twice = 2 * o->zero_out + 1, low = o->low, high = o->high;
  const uint32_t channels = o->out_c, row = (k * @bits@ + 7) / 8;
  const int8_t *w = o->weights, *shifts = o->shifts, *const x_end = x + k, *const x_words = x + k / @group@ * @group@;
  const int32_t *numbers = o->numbers;
  for (uint32_t c = 0; c < channels; c += 2, w += 2 * row, numbers += 4, shifts += 2) {
    const uint32_t second = c + 1 < channels ? 1 : 0;
    const int8_t *w0 = w, *w1 = w + second * row, *x0 = x;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
#if MVE
    const uint8x16_t lane = vidupq_n_u8(0, 1), places = vmlaq_n_u8(lane, vshrq_n_u8(lane, 2), @group@ - 4);
    for (; x0 < x_words; w0 += 16, w1 += 16, x0 += 4 * @group@) {
      const mve_pred16_t lanes = vctp8q((uint32_t)(x_words - x0) * @bits@ / 8);
      const int8x16_t u = vldrbq_z_s8(w0, lanes), v = vldrbq_z_s8(w1, lanes);
@parts@
    }
    w0 = w + k / @group@ * 4, w1 = w0 + second * row, x0 = x_words;
    a0 >>= @up@, a1 >>= @up@, b0 >>= @up@, b1 >>= @up@;
#elif DSP
    for (; x0 < x_words; w0 += 4, w1 += 4, x0 += @group@) {
      const uint32_t u = load4(w0), v = load4(w1);
@parts@
    }
    for (; x0 + 4 <= x_end; w0 += @four@, w1 += @four@, x0 += 4) {
      const uint32_t u = spread@bits@(w0), v = spread@bits@(w1);
      FOUR(EVEN((u << @up@) & @high@ * 0x01010101u), EVEN((u << @next@) & @high@ * 0x01010101u),
           EVEN((v << @up@) & @high@ * 0x01010101u), EVEN((v << @next@) & @high@ * 0x01010101u), x0);
    }
    a0 >>= @up@, a1 >>= @up@, b0 >>= @up@, b1 >>= @up@;
#else
    for (; x0 < x_words; x0 += @group@ - 4) {
      for (uint32_t j = 0; j < 4; ++j, ++w0, ++w1, ++x0) {
@words@
      }
    }
#endif
#if MVE || !DSP
    for (; x0 + @each@ <= x_end; ++w0, ++w1, x0 += @each@) {
@row@
    }
#endif
    for (uint32_t place = 32 - @bits@; x0 < x_end; ++x0, place -= @bits@) {
      if (place < 24) ++w0, ++w1, place = 32 - @bits@; /* of three weights of four bits the last */
      ONE(place, @bits@, x0);
    }
    /* Of a pixel alone both are the same. */
    for (uint32_t i = 0;; ++i, a0 = a1, b0 = b1) {
      const int32_t bias = numbers[2 * i], multiplier = numbers[2 * i + 1], shift = shifts[i];
      const int32_t r = output(a0 + bias, multiplier, shift, twice), s = output(b0 + bias, multiplier, shift, twice);
      y[c + i] = (int8_t)CLAMP(r, low, high);
      to[c + i] = (int8_t)CLAMP(s, low, high);
      if (i == second) break;
    }
  }
}

static APART void dense@bits@(const op_t *o, uint32_t k, const int8_t *x, uint32_t step, uint32_t n, int8_t *y) {
  for (; n > 1; n -= 2, x += 2 * step, y += 2 * o->out_c) dense@bits@_pixels(o, k, x, step, y, y + o->out_c);
  if (n > 0) dense@bits@_pixels(o, k, x, 0, y, y);
}
