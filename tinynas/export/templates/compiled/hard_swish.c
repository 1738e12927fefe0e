
static APART void hard_swish_row(const op_t *o, const int8_t *a, int8_t *y) {
  for (uint32_t i = 0; i < (uint32_t)o->out_w * o->out_c; ++i) y[i] = o->weights[a[i] + 128];
}
