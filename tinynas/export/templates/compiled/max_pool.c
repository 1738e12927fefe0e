
static APART void max_pool_row(const op_t *o, const int8_t *const *rows, int8_t *y) {
  for (uint32_t x = 0; x < o->out_w; ++x) {
    for (uint32_t c = 0; c < o->out_c; ++c) {
      int8_t most = -128;
      for (uint32_t i = 0; i < o->kernel_h; ++i) {
        const int8_t *in = rows[i] + x * o->stride_w * o->in_c + c;
        for (uint32_t j = 0; j < o->kernel_w; ++j, in += o->in_c) most = *in > most ? *in : most;
      }
      *y++ = most;
    }
  }
}
