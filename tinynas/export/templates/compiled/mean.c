
static APART void mean_row(const op_t *o, uint32_t step, const int8_t *row, int32_t *sums, int8_t *y) {
  if (step == 0) {
    for (uint32_t c = 0; c < o->out_c; ++c) sums[c] = o->numbers[1];
  }
  for (uint32_t x = 0; x < o->in_w; ++x) {
    for (uint32_t c = 0; c < o->out_c; ++c) sums[c] += *row++;
  }
  if (step + 1u == o->steps) {
    for (uint32_t c = 0; c < o->out_c; ++c) {
      const int32_t r = rescale_wide(sums[c], o->numbers[0], o->shifts[0]) + o->zero_out;
      y[c] = (int8_t)CLAMP(r, o->low, o->high);
    }
  }
}
