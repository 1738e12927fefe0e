bool @ns@_convert(const @ns@_frame_t *frame, @ns@_resize_t resize, uint8_t *pixels) { return Convert(frame, resize, pixels); }
