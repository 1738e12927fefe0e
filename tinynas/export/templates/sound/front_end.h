/* @star_banner@
 *
 * From sound to what the network reads: @summary@.
 * C99 without heap; the bytes are those that the network was trained on, to the last bit.
 */
#ifndef @GUARD@_FRONT_END_H
#define @GUARD@_FRONT_END_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @GUARD@_SAMPLE_RATE @sample_rate@ /* samples a second */
#define @GUARD@_WINDOW @window@ /* samples of one frame */
#define @GUARD@_STRIDE @stride@ /* samples from one frame to the next */
#define @GUARD@_FFT @fft_size@
#define @GUARD@_BINS @bins@ /* channels of the filter bank */
#define @GUARD@_FEATURES @features@ /* bytes of a frame */
#define @GUARD@_FRAMES @frames@ /* frames of a clip, which the network reads at once */
#define @GUARD@_CLIP @clip_samples@ /* samples of a clip */
#define @GUARD@_NOISE_REDUCTION @noise_reduction@
#define @GUARD@_PCAN @pcan@
#define @GUARD@_MFCC @mfcc@

typedef struct {
  int16_t re, im;
} @ns@_complex_t;

/* What the front end works in. */
typedef struct {
  @ns@_complex_t fft[@GUARD@_FFT / 2];
#if @GUARD@_NOISE_REDUCTION || @GUARD@_PCAN
  uint32_t noise[@GUARD@_BINS]; /* what lasts in each channel */
#endif
  int16_t samples[@GUARD@_WINDOW]; /* of the frame that is coming in */
#if @GUARD@_MFCC
  uint16_t logs[@GUARD@_BINS];
#endif
  uint32_t used; /* of samples */
} @ns@_front_end_t;

/* Begins in silence. */
void @ns@_front_end_start(@ns@_front_end_t *state);

/* Takes samples up to the end of the next frame and returns how many it took, `count` at most. Where that frame is complete it is written
   to `frame` (@GUARD@_FEATURES bytes) and *ready is 1, otherwise 0. The first frame is complete after @GUARD@_WINDOW samples, each other
   one after @GUARD@_STRIDE more. */
int @ns@_front_end_push(@ns@_front_end_t *state, const int16_t *samples, int count, uint8_t *frame, int *ready);

#ifdef __cplusplus
}
#endif

#endif
