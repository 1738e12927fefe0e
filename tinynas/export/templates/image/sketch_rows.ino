  const unsigned long start = micros();
  @ns@_begin(160, 120, @GUARD@_RGB565_BIG_ENDIAN, @GUARD@_LIKE_TRAINING);
  for (int y = 0; y < 120; ++y) {
    // Camera.readRow(row_buffer): a row at a time, the frame lies nowhere.
    @ns@_push(row_buffer);
  }
  const int found = @ns@_answer();
