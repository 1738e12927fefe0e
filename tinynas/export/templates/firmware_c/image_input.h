/* @star_banner@
 *
 * From a camera frame to the pixels that the network reads: center crop, resize, color, @image_sentence@
 */
#ifndef @GUARD@_IMAGE_INPUT_H
#define @GUARD@_IMAGE_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "model_settings.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  @GUARD@_RGB888,               /* bytes R, G, B */
  @GUARD@_BGR888,               /* bytes B, G, R */
  @GUARD@_RGB565_LITTLE_ENDIAN, /* 16 bits RRRRRGGG GGGBBBBB, low byte first */
  @GUARD@_RGB565_BIG_ENDIAN,    /* the same, high byte first: what most camera modules send */
  @GUARD@_GRAY8                 /* one byte */
} @ns@_format_t;

typedef enum {
  @GUARD@_LIKE_TRAINING, /* area where the window is reduced, bilinear where it is enlarged */
  @GUARD@_AREA,          /* mean over the pixels covered: reads every pixel of the crop once */
  @GUARD@_BILINEAR,      /* four pixels read for each one written */
  @GUARD@_NEAREST        /* one pixel read for each one written: fastest, aliases when reducing */
} @ns@_resize_t;

typedef struct {
  const uint8_t *pixels;
  int width;
  int height;
  @ns@_format_t format;
  int stride_bytes; /* from one row to the next; 0 where rows follow each other */
} @ns@_frame_t;

@image_api@
#ifdef __cplusplus
}
#endif

#endif
