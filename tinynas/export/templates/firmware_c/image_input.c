/* @star_banner@ */
#include "image_input.h"

enum { kInputHeight = @GUARD@_HEIGHT, kInputWidth = @GUARD@_WIDTH, kInputChannels = @GUARD@_CHANNELS, kInputRotation = @GUARD@_INPUT_ROTATION };

typedef @ns@_format_t PixelFormat;
typedef @ns@_resize_t Resize;
typedef @ns@_frame_t Frame;
typedef uint8_t InputElement;

/* The network takes pixels as they are. */
static inline uint8_t QuantizePixel(uint32_t pixel) { return (uint8_t)pixel; }

@image_code@
