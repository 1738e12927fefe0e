
/* The first element of the pixel that a window reads; false outside of the map. */
static bool Pixel(const Op *op, uint32_t y, uint32_t x, uint32_t ky, uint32_t kx, uint32_t *first) {
  const uint32_t row = y * op->stride_h + ky - op->pad_top, column = x * op->stride_w + kx - op->pad_left; /* outside they are large */
  *first = (row * op->in_w + column) * op->in_c;
  return row < op->in_h && column < op->in_w;
}
