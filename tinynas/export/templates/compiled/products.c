
/* The products of a convolution, by the bits of its weights. */
static ALWAYS void products(const op_t *o, uint32_t k, const int8_t *x, uint32_t step, uint32_t n, int8_t *y) {
  switch (o->kind) {
@products_cases@
  }
}
