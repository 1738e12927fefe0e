int @ns@_classify(const @ns@_frame_t *frame, @ns@_resize_t resize) {
  answered = false;
  if (!@ns@_convert(frame, resize, @ns@_frame(&network))) return -1;
  @ns@_run(&network, NULL);
  answered = true;
  return @ns@_answer();
}
