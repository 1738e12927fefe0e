
static APART void max_pool_row(const op_t *o, const int8_t *const *rows, int8_t *y) {
  for (uint32_t x = 0; x < o->out_w; ++x) {
    for (uint32_t c = 0; c < o->out_c; ++c) {
      int8_t most = -128;
      for (uint32_t i = 0; i < o->kernel_h; ++i) {
        if (rows[i] == NULL) continue;
        for (uint32_t j = 0; j < o->kernel_w; ++j) {
          const uint32_t at = x * o->stride_w + j - o->pad_left; /* left of the map it is a large number */
          if (at >= o->in_w) continue;
          const int8_t value = rows[i][at * o->in_c + c];
          most = value > most ? value : most;
        }
      }
      *y++ = most;
    }
  }
}
