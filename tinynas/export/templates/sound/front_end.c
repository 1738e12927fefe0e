/* @star_banner@
 *
 * The arithmetic of TFLM's micro front end and of the 16-bit FFT under it, rounding for rounding; shifts of negative numbers keep the
 * sign, and what does not fit into 16 bits wraps, as it does with every compiler for these cores.
 */
#include "front_end.h"

#include <string.h>

#define POINTS (@GUARD@_FFT / 2) /* pairs of samples are complex numbers */
#define QUARTER (@GUARD@_FFT / 4)

static const int16_t window[@GUARD@_WINDOW] = {@window_values@};

/* A quarter of a wave over the FFT's circle. */
static const int16_t sine[QUARTER + 1] = {@sine_values@};

/* How many frequencies rise to each channel, and to the end of the last one. */
static const @width_type@ widths[@GUARD@_BINS + 1] = {@width_values@};

/* Their weights of 4,096 in the channel they rise to; the top bit where the weight in the channel before is one more than the rest. */
static const uint16_t weights[@weight_count@] = {@weight_values@};
#define FIRST_BIN @first_bin@

static const uint16_t log_curve[129] = {@log_values@};
#define CORRECTION @correction@

#if @GUARD@_PCAN
static const int16_t gains[125] = {@gain_values@};
#define GAIN_SHIFT @gain_shift@
#endif

#if @GUARD@_MFCC
static const int16_t cosines[@GUARD@_FEATURES][@GUARD@_BINS] = {@cosine_values@};
#define COSINE_BITS @cosine_bits@
#else
#define SPAN @span@ /* of the logarithms in 256 bytes */
#endif

typedef @ns@_complex_t complex16;

static int16_t narrow(int32_t product) { return (int16_t)((product + (1 << 14)) >> 15); }

static int bit_length(uint32_t value) {
#ifdef __GNUC__
  return value == 0 ? 0 : 32 - __builtin_clz(value);
#else
  int bits = 0;
  for (; value != 0; value >>= 1) ++bits;
  return bits;
#endif
}

static complex16 divided(complex16 value, int32_t factor) {
  const complex16 result = {narrow(value.re * factor), narrow(value.im * factor)};
  return result;
}

/* `value` turned by `angle` steps of the FFT's circle, at most three quarters of it. */
static complex16 turned(complex16 value, unsigned angle) {
  if (angle == 0) return value; /* what was divided before does not change */
  const unsigned quadrant = angle / QUARTER, rest = angle % QUARTER;
  const int32_t s = sine[rest], c = sine[QUARTER - rest];
  const int32_t re = quadrant == 0 ? c : quadrant == 1 ? -s : -c, im = quadrant == 0 ? -s : quadrant == 1 ? -c : s;
  const complex16 result = {narrow(value.re * re - value.im * im), narrow(value.re * im + value.im * re)};
  return result;
}

static complex16 sum(complex16 a, complex16 b) {
  const complex16 result = {(int16_t)(a.re + b.re), (int16_t)(a.im + b.im)};
  return result;
}

static complex16 difference(complex16 a, complex16 b) {
  const complex16 result = {(int16_t)(a.re - b.re), (int16_t)(a.im - b.im)};
  return result;
}

/* Four transforms of `length` points each, one behind the other, become one. */
static void join_four(complex16 *at, unsigned length) {
  const unsigned step = @GUARD@_FFT / 4 / length;
  for (unsigned k = 0; k < length; ++k, ++at) {
    const complex16 first = divided(at[0], 8191);
    const complex16 a = turned(divided(at[length], 8191), k * step), b = turned(divided(at[2 * length], 8191), 2 * k * step);
    const complex16 c = turned(divided(at[3 * length], 8191), 3 * k * step);
    const complex16 even = sum(first, b), odd = sum(a, c), rest = difference(first, b), side = difference(a, c);
    at[0] = sum(even, odd);
    at[2 * length] = difference(even, odd);
    at[length].re = (int16_t)(rest.re + side.im);
    at[length].im = (int16_t)(rest.im - side.re);
    at[3 * length].re = (int16_t)(rest.re - side.im);
    at[3 * length].im = (int16_t)(rest.im + side.re);
  }
}

/* Where the FFT wants the pair of samples `index`. */
static unsigned place_of(unsigned index) {
  unsigned place = 0, rest = POINTS;
  while (rest >= 4) {
    rest /= 4;
    place += (index & 3) * rest;
    index >>= 2;
  }
  return rest == 2 ? place + (index & 1) : place;
}

static void transform(complex16 *fft) {
  unsigned length = 1;
#if @odd_stages@
  for (unsigned at = 0; at < POINTS; at += 2) {
    const complex16 a = divided(fft[at], 16383), b = divided(fft[at + 1], 16383);
    fft[at] = sum(a, b);
    fft[at + 1] = difference(a, b);
  }
  length = 2;
#endif
  for (; length < POINTS; length *= 4) {
    for (unsigned at = 0; at < POINTS; at += 4 * length) join_four(fft + at, length);
  }
  /* From the spectrum of pairs to that of the samples; what is at 0 Hz nobody reads. */
  for (unsigned k = 1; k <= POINTS / 2; ++k) {
    const complex16 a = divided(fft[k], 16383);
    complex16 b = divided(fft[POINTS - k], 16383);
    b.im = (int16_t)-b.im;
    const complex16 whole = sum(a, b), part = turned(difference(a, b), QUARTER + k);
    fft[k].re = (int16_t)((whole.re + part.re) >> 1);
    fft[k].im = (int16_t)((whole.im + part.im) >> 1);
    fft[POINTS - k].re = (int16_t)((whole.re - part.re) >> 1);
    fft[POINTS - k].im = (int16_t)((part.im - whole.im) >> 1);
  }
}

static int16_t windowed(const int16_t *samples, unsigned index) {
  return (int16_t)((samples[index] * (int32_t)window[index]) >> 12);
}

static int16_t scaled(const int16_t *samples, unsigned index, int shift) {
  if (index >= @GUARD@_WINDOW) return 0;
  return (int16_t)((uint32_t)windowed(samples, index) << shift);
}

/* The window's samples, scaled up to 16 bits, into the FFT; returns by how many bits. */
static int load(@ns@_front_end_t *state) {
  int32_t loudest = 0;
  for (unsigned i = 0; i < @GUARD@_WINDOW; ++i) {
    const int16_t value = windowed(state->samples, i);
    /* -32,768 has no positive counterpart and is no maximum: so it is where the network was trained. */
    const int16_t size = value < 0 ? (int16_t)-value : value;
    if (size > loudest) loudest = size;
  }
  const int shift = 15 - bit_length((uint32_t)loudest);
  for (unsigned pair = 0; pair < POINTS; ++pair) {
    complex16 *to = state->fft + place_of(pair);
    const unsigned i = 2 * pair;
    to->re = scaled(state->samples, i, shift);
    to->im = scaled(state->samples, i + 1, shift);
  }
  return shift;
}

static uint32_t root(uint64_t value) {
  const int wide = (value >> 32) != 0;
  uint64_t result = 0, bit = (uint64_t)1 << 62;
  if (!wide) { /* most are: in 32 bits */
    uint32_t rest = (uint32_t)value, found = 0;
    for (uint32_t one = (uint32_t)1 << 30; one != 0; one >>= 2) {
      if (rest >= found + one) {
        rest -= found + one;
        found = (found >> 1) + one;
      } else {
        found >>= 1;
      }
    }
    return rest > found && found != 0xffff ? found + 1 : found;
  }
  while (bit > value) bit >>= 2;
  for (; bit != 0; bit >>= 2) {
    if (value >= result + bit) {
      value -= result + bit;
      result = (result >> 1) + bit;
    } else {
      result >>= 1;
    }
  }
  return (uint32_t)(value > result && result != 0xffffffff ? result + 1 : result);
}

#if @GUARD@_NOISE_REDUCTION || @GUARD@_PCAN
/* Enters `signal` into what is known of the channel's noise, and takes that away. */
static uint32_t steadied(uint32_t signal, uint32_t *noise, int channel) {
  const uint32_t smoothing = channel % 2 == 0 ? @even_smoothing@ : @odd_smoothing@, scaled = signal << @smoothing_bits@;
  *noise = (uint32_t)(((uint64_t)scaled * smoothing + (uint64_t)*noise * ((1 << @noise_bits@) - smoothing)) >> @noise_bits@);
#if @GUARD@_NOISE_REDUCTION
  const uint32_t least = (uint32_t)(((uint64_t)signal * @least_left@) >> @noise_bits@);
  const uint32_t left = (scaled - (*noise < scaled ? *noise : scaled)) >> @smoothing_bits@;
  return left > least ? left : least;
#else
  return signal;
#endif
}
#endif

#if @GUARD@_PCAN
static uint32_t gained(uint32_t signal, uint32_t noise) {
  int32_t gain = gains[noise <= 2 ? noise : 0];
  if (noise > 2) {
    const int interval = bit_length(noise);
    const int16_t *curve = gains + 4 * interval - 6;
    const int32_t fraction = (int32_t)((interval < 11 ? noise << (11 - interval) : noise >> (interval - 11)) & 0x3ff);
    const int32_t slope = ((curve[2] * fraction) >> 5) + curve[1] * 32;
    gain = (int16_t)(((slope * fraction + (1 << 14)) >> 15) + curve[0]);
  }
  const uint32_t ratio = (uint32_t)(((uint64_t)signal * (uint32_t)gain) >> GAIN_SHIFT);
  return ratio < 2 << 12 ? (ratio * ratio) >> 20 : (ratio >> 6) - 64;
}
#endif

/* In 1/64 nepers. */
static uint32_t logarithm(uint32_t value) {
#if CORRECTION >= 0
  value <<= CORRECTION;
#else
  value >>= -CORRECTION;
#endif
  if (value <= 1) return 0;
  const uint32_t whole = (uint32_t)bit_length(value) - 1;
  uint32_t fraction = value - ((uint32_t)1 << whole);
  fraction = whole < 16 ? fraction << (16 - whole) : fraction >> (whole - 16);
  const uint32_t segment = fraction >> 9;
  const int32_t low = log_curve[segment], high = log_curve[segment + 1];
  const int32_t between = ((high - low) * (int32_t)(fraction - (segment << 9))) >> 16;
  const uint32_t log2 = (whole << 16) + fraction + (uint32_t)(low + between);
  const uint32_t natural = (uint32_t)(((uint64_t)45426 * log2 + 32768) >> 16);
  return ((natural << 6) + 32768) >> 16;
}

static uint8_t to_byte(int32_t value) { return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value); }

static void finish(@ns@_front_end_t *state, int channel, uint32_t signal, uint8_t *frame) {
#if @GUARD@_NOISE_REDUCTION || @GUARD@_PCAN
  signal = steadied(signal, state->noise + channel, channel);
#endif
#if @GUARD@_PCAN
  signal = gained(signal, state->noise[channel]);
#endif
#if @GUARD@_MFCC
  (void)frame;
  state->logs[channel] = (uint16_t)logarithm(signal);
#else
  (void)state;
  frame[channel] = to_byte((int32_t)((logarithm(signal) * 256 + SPAN / 2) / SPAN));
#endif
}

static void make_frame(@ns@_front_end_t *state, uint8_t *frame) {
  const int shift = load(state);
  const complex16 *bin = state->fft + FIRST_BIN;
  const uint16_t *weight = weights;
  uint64_t falling = 0;
  transform(state->fft);
  for (int channel = 0; channel <= @GUARD@_BINS; ++channel) {
    uint64_t rising = falling;
    falling = 0;
    for (unsigned left = widths[channel]; left > 0; --left, ++bin, ++weight) {
      const uint32_t energy = (uint32_t)(bin->re * bin->re) + (uint32_t)(bin->im * bin->im), up = *weight & 0x1fff;
      rising += (uint64_t)up * energy;
      falling += (uint64_t)(4096 - up + (*weight >> 15)) * energy;
    }
    if (channel > 0) finish(state, channel - 1, root(rising) >> shift, frame);
  }
#if @GUARD@_MFCC
  for (int k = 0; k < @GUARD@_FEATURES; ++k) {
    int32_t total = 1 << (COSINE_BITS - 1);
    for (int channel = 0; channel < @GUARD@_BINS; ++channel) total += cosines[k][channel] * (int32_t)state->logs[channel];
    frame[k] = to_byte((total >> COSINE_BITS) + (k == 0 ? 0 : 128));
  }
#endif
}

void @ns@_front_end_start(@ns@_front_end_t *state) { memset(state, 0, sizeof *state); }

int @ns@_front_end_push(@ns@_front_end_t *state, const int16_t *samples, int count, uint8_t *frame, int *ready) {
  const int wanted = @GUARD@_WINDOW - (int)state->used, taken = count < wanted ? count : wanted;
  *ready = 0;
  if (taken <= 0) return 0;
  memcpy(state->samples + state->used, samples, (size_t)taken * sizeof *samples);
  state->used += (uint32_t)taken;
  if (taken == wanted) {
    make_frame(state, frame);
    memmove(state->samples, state->samples + @GUARD@_STRIDE, sizeof state->samples - @GUARD@_STRIDE * sizeof *samples);
    state->used -= @GUARD@_STRIDE;
    *ready = 1;
  }
  return taken;
}
