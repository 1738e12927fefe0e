
/* The second factor is a row, or a vector that serves every pixel. */
static APART void mul_row(const op_t *o, const int8_t *a, const int8_t *b, int8_t *y) {
  for (uint32_t x = 0; x < o->out_w; ++x, a += o->out_c, y += o->out_c) {
    for (uint32_t c = 0; c < o->out_c; ++c) {
      const int32_t r = rescale((a[c] - o->zero_in) * (b[c] - o->zero_in2), o->numbers[0], o->shifts[0]) + o->zero_out;
      y[c] = (int8_t)CLAMP(r, o->low, o->high);
    }
    if (o->kernel_w > 1) b += o->out_c;
  }
}
