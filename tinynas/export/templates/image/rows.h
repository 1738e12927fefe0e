/* A frame whose rows come one by one, from the top. The largest centered window with the input's aspect ratio is resized, as in training;
   nothing is squashed. Exact: the same pixels as from the whole frame. @converter_bytes@ bytes on a 32-bit target. */
typedef struct {
  uint32_t step, top, rows, left, columns; /* the window */
  uint32_t taken, given;                   /* rows of the frame, and of the input */
  @ns@_format_t format;
  @ns@_resize_t resize;
  const uint8_t *pixels; /* the row taken last, from the window's first pixel, as long as there is something in it */
  uint32_t sums[3 * @GUARD@_WIDTH];
  uint8_t row[@GUARD@_WIDTH * @GUARD@_CHANNELS];
} @ns@_camera_t;

/* Begins a frame of width x height; false for an empty one, or one beyond 16,843,009 pixels (32-bit sums). */
bool @ns@_camera_begin(@ns@_camera_t *camera, int width, int height, @ns@_format_t format, @ns@_resize_t resize);

/* Takes the next row of the frame, which must stay until @ns@_camera_next gives nothing more. */
void @ns@_camera_take(@ns@_camera_t *camera, const uint8_t *row);

/* The next row of the input that is whole now: width x channels bytes of pixels; null where more rows of the frame are needed. To be
   called until it gives null: a row of the frame may end several rows of the input, or none. */
const uint8_t *@ns@_camera_next(@ns@_camera_t *camera);

