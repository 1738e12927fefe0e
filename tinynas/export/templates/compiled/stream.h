/* @star_banner@
 *
 * @sentence@
 * C99, no heap, no recursion; all memory is in @name@_t, whose size is @UPPER@_WORK_BYTES.
 * Several networks can be in one program, and one network several times.
 */
#ifndef @UPPER@_H_
#define @UPPER@_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Frames of a clip: outputs are of the last so many. */
#define @UPPER@_FRAMES @height@
/* Frames from the reset to the first outputs, and from outputs to outputs. */
#define @UPPER@_FIRST @first@
#define @UPPER@_EVERY @every@
#define @UPPER@_WIDTH @width@
#define @UPPER@_CHANNELS @channels@
#define @UPPER@_OUTPUTS @outputs@
/* An output's real value is (number - zero point) * scale. */
#define @UPPER@_OUTPUT_SCALE @output_scale@
#define @UPPER@_OUTPUT_ZERO_POINT (@output_zero_point@)
#define @UPPER@_WORK_BYTES @work_bytes@

typedef struct {
  int32_t area[@area_words@]; /* rows and sums that are kept, and what passes */
  @counter_type@ next[@tensors@]; /* where in its ring the next row of each tensor goes */
  @counter_type@ came[@tensors@]; /* whether a row of it came in this step */
  @counter_type@ wait[@operators@]; /* rows that each operator waits for */
} @name@_t;

/* Silence before the first frame: as the padding of a clip. */
void @name@_reset(@name@_t *m);
/* Give the next frame: @UPPER@_WIDTH * @UPPER@_CHANNELS bytes. Answers 1 when new outputs are there. */
int @name@_step(@name@_t *m, const uint8_t *row);
/* The newest outputs. */
const int8_t *@name@_result(const @name@_t *m);

#ifdef __cplusplus
}
#endif

#endif
