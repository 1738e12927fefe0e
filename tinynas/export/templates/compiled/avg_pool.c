
static APART void avg_pool_row(const op_t *o, const int8_t *const *rows, int8_t *y) {
  const int32_t count = o->kernel_h * o->kernel_w;
  for (uint32_t x = 0; x < o->out_w; ++x) {
    for (uint32_t c = 0; c < o->out_c; ++c) {
      int32_t sum = 0;
      for (uint32_t i = 0; i < o->kernel_h; ++i) {
        const int8_t *in = rows[i] + x * o->stride_w * o->in_c + c;
        for (uint32_t j = 0; j < o->kernel_w; ++j, in += o->in_c) sum += *in;
      }
      *y++ = (int8_t)((sum > 0 ? sum + count / 2 : sum - count / 2) / count);
    }
  }
}
