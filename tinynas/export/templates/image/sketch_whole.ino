  const unsigned long start = micros();
  // Camera.readFrame(frame_buffer);
  const @ns@_frame_t frame = {frame_buffer, 160, 120, @GUARD@_RGB565_BIG_ENDIAN, 0};
  const int found = @ns@_classify(&frame, @GUARD@_LIKE_TRAINING);
