/* Writes the input's height x width x channels bytes of pixels. The largest centered window with the input's aspect ratio is resized, as
   in training; nothing is squashed. False (and nothing written) for an empty frame, a stride shorter than a row, or a frame beyond
   16,843,009 pixels (32-bit sums). */
bool @ns@_convert(const @ns@_frame_t *frame, @ns@_resize_t resize, uint8_t *pixels);

