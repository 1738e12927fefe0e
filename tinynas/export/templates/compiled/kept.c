
uint8_t *@name@_frame(@name@_t *m) { return (uint8_t *)m->area + @frame@; }

void @name@_run(@name@_t *m, const uint8_t *frame) {
  uint8_t *to = @name@_frame(m);
  const uint8_t *from = frame == NULL ? to : frame;
  for (uint32_t i = 0; i < @UPPER@_HEIGHT * @UPPER@_WIDTH * @UPPER@_CHANNELS; ++i) to[i] = from[i] ^ 0x80;
  finish(m, 0);
}
