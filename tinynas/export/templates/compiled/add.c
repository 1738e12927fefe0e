
static APART void add_row(const op_t *o, const int8_t *a, const int8_t *b, int8_t *y) {
  const int32_t *n = o->numbers;
  for (uint32_t i = 0; i < (uint32_t)o->out_w * o->out_c; ++i) {
    const int32_t first = rescale((a[i] - o->zero_in) * (1 << 20), n[0], o->shifts[0]);
    const int32_t second = rescale((b[i] - o->zero_in2) * (1 << 20), n[1], o->shifts[1]);
    const int32_t r = rescale(first + second, n[2], o->shifts[2]) + o->zero_out;
    y[i] = (int8_t)CLAMP(r, o->low, o->high);
  }
}
