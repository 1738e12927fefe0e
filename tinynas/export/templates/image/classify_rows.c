static @ns@_camera_t camera;
static bool begun;

bool @ns@_begin(int width, int height, @ns@_format_t format, @ns@_resize_t resize) {
  answered = false;
  begun = @ns@_camera_begin(&camera, width, height, format, resize);
  @ns@_init(&network);
  return begun;
}

int @ns@_push(const uint8_t *row) {
  if (answered) return 1;
  if (!begun) return -1;
  @ns@_camera_take(&camera, row);
  for (const uint8_t *input = @ns@_camera_next(&camera); input != NULL; input = @ns@_camera_next(&camera)) {
    answered = @ns@_push_row(&network, input) == 1;
  }
  return answered ? 1 : 0;
}

int @ns@_classify(const @ns@_frame_t *frame, @ns@_resize_t resize) {
  if (!@ns@_begin(frame->width, frame->height, frame->format, resize)) return -1;
  const uint32_t packed = (uint32_t)frame->width * camera.step, stride = frame->stride_bytes ? (uint32_t)frame->stride_bytes : packed;
  begun = frame->pixels != NULL && frame->stride_bytes >= 0 && stride >= packed;
  if (!begun) return -1;
  for (int y = 0; y < frame->height && !answered; ++y) @ns@_push(frame->pixels + (uint32_t)y * stride);
  return @ns@_answer();
}
