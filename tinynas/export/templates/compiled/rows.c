
int @name@_push_row(@name@_t *m, const uint8_t *row) {
  if (m->rows >= @UPPER@_HEIGHT) return 1; /* the frame was whole: the next one begins with @name@_init */@done_row@
  int8_t *to = row_of(m, @input@, m->rows);
  for (uint32_t i = 0; i < @UPPER@_WIDTH * @UPPER@_CHANNELS; ++i) to[i] = (int8_t)(row[i] ^ 0x80);
  ++m->rows;
  advance(m);
  if (m->rows < @UPPER@_HEIGHT) return 0;
  finish(m, 1);
  return 1;
}

void @name@_run(@name@_t *m, const uint8_t *frame) {
  @name@_init(m);
  for (uint32_t y = 0; y < @UPPER@_HEIGHT; ++y) @name@_push_row(m, frame + y * @UPPER@_WIDTH * @UPPER@_CHANNELS);
}
