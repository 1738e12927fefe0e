int @ns@_think(const uint8_t *frame) {
  if (!@ns@_step(&network, frame)) return 0;
  answered = true;
  return 1;
}

void @ns@_forget(void) {
  answered = false;
  @ns@_reset(&network);
}
@level_code@