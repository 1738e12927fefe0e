/* @star_banner@ */
#include "@file@.h"

#include <string.h>

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define MVE 1
#else
#define MVE 0
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP)
#include <arm_acle.h>
#define DSP 1
#else
#define DSP 0
#endif

typedef @index_type@ index_t;
#define OUTSIDE ((index_t)~0u)

typedef struct {
  uint32_t offset, pitch; /* row y: area + offset + (y * step + shift) % rows * pitch */
  uint16_t rows;
  uint8_t step, shift;
} place_t;

typedef struct {
  uint8_t kind;
  index_t input, input2, output; /* tensors */
  index_t source, source2;       /* operators of the segment that write the inputs, or OUTSIDE */
  uint8_t kernel_h, kernel_w, stride_h, stride_w, apart, pad_left; /* apart: from one row that a step reads to the next */
  uint8_t window, advance, above; /* rows that a step reads, and how they move on */
  int8_t zero_in, zero_in2, zero_out, low, high;
  uint16_t in_h, in2_h, in_w, in_c, out_w, out_c, steps, each;
  uint32_t scratch;
  const int8_t *weights;
  const int32_t *numbers; /* bias and multiplier of each channel, or what the kind needs */
  const int8_t *shifts;   /* right shifts */
} op_t;

typedef struct {
  index_t first, count;
} segment_t;

/* A kernel is a function of its own, whatever else the program holds: so its code and its part of the stack are known. */
#if defined(__GNUC__)
#define APART __attribute__((noinline))
#define ALWAYS inline __attribute__((always_inline))
#else
#define APART
#define ALWAYS inline
#endif

#define CLAMP(x, low, high) ((x) < (low) ? (low) : (x) > (high) ? (high) : (x))
