static int classify_frame(void) {
  static uint8_t pixels[FRAME_HEIGHT][2 * FRAME_WIDTH];
  for (int y = 0; y < FRAME_HEIGHT; ++y) camera_row(y, pixels[y]);
  const @ns@_frame_t frame = {pixels[0], FRAME_WIDTH, FRAME_HEIGHT, @GUARD@_RGB565_BIG_ENDIAN, 0};
  return @ns@_classify(&frame, @GUARD@_LIKE_TRAINING);
}
