
static APART void resize_row(const op_t *o, const int8_t *a, int8_t *y) {
  for (uint32_t x = 0; x < o->out_w; ++x, y += o->out_c) memcpy(y, a + (x * (uint32_t)o->numbers[1] >> 16) * o->in_c, o->out_c);
}
