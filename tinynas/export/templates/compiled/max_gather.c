
/* One input row goes into the output row, which the first row of a window begins. */
static APART void max_gather_row(const op_t *o, const int8_t *row, int first, int8_t *y) {
  for (uint32_t x = 0; x < o->out_w; ++x) {
    for (uint32_t c = 0; c < o->out_c; ++c, ++y) {
      const int8_t *in = row + x * o->stride_w * o->in_c + c;
      int8_t most = first ? (int8_t)-128 : *y;
      for (uint32_t j = 0; j < o->kernel_w; ++j, in += o->in_c) most = *in > most ? *in : most;
      *y = most;
    }
  }
}
