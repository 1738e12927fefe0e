
static int8_t *row_of(@name@_t *m, uint32_t tensor, uint32_t y) {
  const place_t *p = &places[tensor];
  return (int8_t *)m->area + p->offset + (y * p->step + p->shift) % p->rows * p->pitch;
}
