
/* Two output channels (one where they are odd and it is the last) of `pixels` pixels. */
static ALWAYS void dense_pixels(const op_t *o, uint32_t k, const int8_t *x, uint32_t step, const uint32_t pixels, int8_t *y) {
  const int32_t twice = 2 * o->zero_out + 1, low = o->low, high = o->high;
  const uint32_t channels = o->out_c;
  const int8_t *w = o->weights, *shifts = o->shifts, *const x_end = x + k;
  const int32_t *numbers = o->numbers;
  for (uint32_t c = 0; c < channels; c += 2, w += 2 * k, numbers += 4, shifts += 2) {
    const uint32_t second = c + 1 < channels ? 1 : 0;
    const int8_t *w0 = w, *w1 = w + second * k, *x0 = x;
    int32_t a0 = numbers[0], a1 = numbers[2 * second];
    int32_t b0 = a0, b1 = a1;
#if MVE
    for (; x0 < x_end; w0 += 16, w1 += 16, x0 += 16) {
      const mve_pred16_t lanes = vctp8q((uint32_t)(x_end - x0));
      const int8x16_t u = vldrbq_z_s8(w0, lanes), v = vldrbq_z_s8(w1, lanes), s = vldrbq_z_s8(x0, lanes);
      a0 = vmladavaq_s8(a0, s, u);
      a1 = vmladavaq_s8(a1, s, v);
      if (pixels > 1) {
        const int8x16_t t = vldrbq_z_s8(x0 + step, lanes);
        b0 = vmladavaq_s8(b0, t, u);
        b1 = vmladavaq_s8(b1, t, v);
      }
    }
#elif DSP
    const int8_t *x1 = x + step;
    for (; x0 + 4 <= x_end; w0 += 4, w1 += 4, x0 += 4, x1 += 4) {
      const uint32_t u = load4(w0), v = load4(w1), s = load4(x0);
      const int32_t ue = EVEN(u), uo = ODD(u), ve = EVEN(v), vo = ODD(v), se = EVEN(s), so = ODD(s);
      a0 = __smlad(so, uo, __smlad(se, ue, a0));
      a1 = __smlad(so, vo, __smlad(se, ve, a1));
      if (pixels > 1) {
        const uint32_t t = load4(x1);
        const int32_t te = EVEN(t), to = ODD(t);
        b0 = __smlad(to, uo, __smlad(te, ue, b0));
        b1 = __smlad(to, vo, __smlad(te, ve, b1));
      }
    }
#endif
    for (; x0 < x_end; ++x0) {
      const int32_t u = *w0++, v = *w1++, s = *x0;
      a0 += s * u;
      a1 += s * v;
      if (pixels > 1) {
        const int32_t t = x0[step];
        b0 += t * u;
        b1 += t * v;
      }
    }
    int32_t r = output(a0, numbers[1], shifts[0], twice);
    y[c] = (int8_t)CLAMP(r, low, high);
    if (pixels > 1) {
      r = output(b0, numbers[1], shifts[0], twice);
      y[channels + c] = (int8_t)CLAMP(r, low, high);
    }
    if (second) {
      r = output(a1, numbers[3], shifts[1], twice);
      y[c + 1] = (int8_t)CLAMP(r, low, high);
      if (pixels > 1) {
        r = output(b1, numbers[3], shifts[1], twice);
        y[channels + c + 1] = (int8_t)CLAMP(r, low, high);
      }
    }
  }
}

/* A matrix product for each of n pixels of k numbers, `step` bytes apart. */
static APART void dense(const op_t *o, uint32_t k, const int8_t *x, uint32_t step, uint32_t n, int8_t *y) {
  for (; n > 1; n -= 2, x += 2 * step, y += 2 * o->out_c) dense_pixels(o, k, x, step, 2, y);
  if (n > 0) dense_pixels(o, k, x, 0, 1, y);
}
