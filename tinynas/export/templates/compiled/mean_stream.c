
/* The sums of the last rows, as many as a clip has, and their total; exact, so that it never drifts. */
static APART void mean_row(const op_t *o, int ready, const int8_t *row, int32_t *state, int8_t *y) {
  int32_t *sums = state + 1;
  @sum_type@ *oldest = (@sum_type@ *)(void *)(sums + o->out_c) + (uint32_t)state[0] * o->out_c;
  for (uint32_t c = 0; c < o->out_c; ++c) {
    int32_t sum = 0;
    for (uint32_t x = 0; x < o->in_w; ++x) sum += row[x * o->out_c + c];
    sums[c] += sum - oldest[c];
    oldest[c] = (@sum_type@)sum;
  }
  state[0] = state[0] + 1 < o->in_h ? state[0] + 1 : 0;
  if (!ready) return;
  for (uint32_t c = 0; c < o->out_c; ++c) {
    const int32_t r = rescale_wide(sums[c], o->numbers[0], o->shifts[0]) + o->zero_out;
    y[c] = (int8_t)CLAMP(r, o->low, o->high);
  }
}
