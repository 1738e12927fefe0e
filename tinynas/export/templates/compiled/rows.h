
/* Give the next row of the frame, from the top: @UPPER@_WIDTH * @UPPER@_CHANNELS bytes of pixels.
   Answers 1 when the outputs are there. */
int @name@_push_row(@name@_t *m, const uint8_t *row);
/* A whole inference of a frame that lies somewhere else. */
void @name@_run(@name@_t *m, const uint8_t *frame);
