
/* Where a frame of pixels is to be written: @UPPER@_HEIGHT rows of @UPPER@_WIDTH * @UPPER@_CHANNELS bytes. An inference destroys it. */
uint8_t *@name@_frame(@name@_t *m);
/* A whole inference: of the frame written there (frame NULL), or of one that lies somewhere else. */
void @name@_run(@name@_t *m, const uint8_t *frame);
