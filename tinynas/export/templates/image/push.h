/* The same for a frame whose rows come one by one, so that it lies nowhere: begin, then push each row of the camera from the top.
   @ns@_begin gives false for a frame that cannot be. @ns@_push gives 1 when the answer is there (rows behind are not needed), 0 for
   more, -1 where no frame was begun. */
bool @ns@_begin(int width, int height, @ns@_format_t format, @ns@_resize_t resize);
int @ns@_push(const uint8_t *row);

