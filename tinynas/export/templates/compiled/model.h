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

#define @UPPER@_HEIGHT @height@
#define @UPPER@_WIDTH @width@
#define @UPPER@_CHANNELS @channels@
#define @UPPER@_OUTPUTS @outputs@
/* An output's real value is (number - zero point) * scale. */
#define @UPPER@_OUTPUT_SCALE @output_scale@
#define @UPPER@_OUTPUT_ZERO_POINT (@output_zero_point@)
#define @UPPER@_WORK_BYTES @work_bytes@
/* At most so much stack below a call on any Cortex-M, as gcc 12 compiles it at -O2; interrupts take theirs beside. */
#define @UPPER@_STACK_BYTES @stack_bytes@

typedef struct {
  int32_t area[@area_words@]; /* rows of activations */
  @counter_type@ at[@longest@];   /* steps that each operator of the segment has done */
  @counter_type@ done[@longest@]; /* rows that it has written */
  @counter_type@ rows;      /* rows of the frame that are there */
  uint8_t segment;
} @name@_t;

/* Begin an inference. */
void @name@_init(@name@_t *m);
@api@
/* The outputs of the last inference, until the next one begins. */
const int8_t *@name@_result(const @name@_t *m);

#ifdef __cplusplus
}
#endif

#endif
