
static APART void conv_row(const op_t *o, const int8_t *const *rows, int8_t *patches, int8_t *y) {
  const uint32_t channels = o->in_c, kernel = o->kernel_w, k = o->kernel_h * kernel * channels;
  for (uint32_t x = 0; x < o->out_w; x += 2) {
    const uint32_t n = x + 1 < o->out_w ? 2 : 1;
    int8_t *at = patches;
    for (uint32_t i = 0; i < n; ++i) {
      const int32_t first = (int32_t)((x + i) * o->stride_w) - o->pad_left;
      const uint32_t before = first < 0 ? (uint32_t)-first : 0, from = first < 0 ? 0 : (uint32_t)first;
      const int32_t end = first + (int32_t)kernel;
      const uint32_t behind = end > o->in_w ? (uint32_t)(end - o->in_w) : 0;
      const uint32_t taken = kernel - before - behind;
      for (uint32_t line = 0; line < o->kernel_h; ++line, at += kernel * channels) {
        if (rows[line] == NULL || before + behind > 0) memset(at, o->zero_in, kernel * channels);
        if (rows[line] != NULL) memcpy(at + before * channels, rows[line] + from * channels, taken * channels);
      }
    }
    @products@(o, k, patches, k, n, y + x * o->out_c);
  }
}
