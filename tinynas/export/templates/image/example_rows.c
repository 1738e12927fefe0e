/* One row of the camera is in memory at a time. */
static int classify_frame(void) {
  static uint8_t pixels[2 * FRAME_WIDTH];
  if (!@ns@_begin(FRAME_WIDTH, FRAME_HEIGHT, @GUARD@_RGB565_BIG_ENDIAN, @GUARD@_LIKE_TRAINING)) return -1;
  for (int y = 0; y < FRAME_HEIGHT; ++y) {
    camera_row(y, pixels);
    @ns@_push(pixels);
  }
  return @ns@_answer();
}
