/* Learning's own memory: real values, bits of activations, gradients, and what is learned. Places are numbers of floats in it. */
static float memory[@own_floats@];

enum { kNowhere = -1, kLinear = 0, kRelu = 1, kRelu6 = 2 };

/* A tensor of the tail: bytes that the runtime keeps (real = scale * (byte - zero)), or real values in the memory. */
typedef struct {
  int32_t kept; /* its number among the kept ones, or kNowhere */
  int32_t place, gradient;
  int32_t zero;
  float scale;
} Value;

typedef struct {
  uint8_t kind, act, in, in2, out;
  uint8_t kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left;
  uint16_t in_h, in_w, in_c, out_h, out_w, out_c;
  int32_t mask;
  int32_t weights, biases; /* what is learned, in the memory */
  int32_t momentum, sums;  /* of weights, then biases, as far as they are learned */
  const int8_t *fixed;     /* weights of the model, and the step of each output channel */
  const float *steps;
  const float *first; /* its biases */
} Op;

enum { kConv, kDepthwise, kMean, kAdd };

@tables@
/* Where the values of the tensor that is read lie. */
typedef struct {
  const int8_t *bytes;
  const float *reals;
  int32_t zero;
  float scale;
} Source;

static const int8_t *kept[kKept];
static float rate;
static bool begun, answered;

static Source SourceOf(uint32_t tensor) {
  const Value *value = &values[tensor];
  Source source = {@NULL@, @NULL@, value->zero, value->scale};
  if (value->kept != kNowhere) {
    source.bytes = kept[value->kept];
  } else {
    source.reals = memory + value->place;
  }
  return source;
}

static float At(const Source *source, uint32_t i) {
  return source->bytes != @NULL@ ? @f32@(source->bytes[i] - source->zero) : source->reals[i];
}

/* Writes a sum through the activation, and the bit that says whether a gradient passes. */
static void Finish(const Op *op, uint32_t i, float sum) {
  bool passes = true;
  if (op->act == kRelu) passes = sum > 0.0f;
  if (op->act == kRelu6) passes = sum >= 0.0f && sum <= 6.0f;
  if (op->mask != kNowhere) {
    uint8_t *bits = @u8p@(memory + op->mask);
    const uint32_t bit = 1u << (i & 7u);
    bits[i >> 3] = @u8@(passes ? bits[i >> 3] | bit : bits[i >> 3] & ~bit);
  }
  if (op->act != kLinear && sum < 0.0f) sum = 0.0f;
  if (op->act == kRelu6 && sum > 6.0f) sum = 6.0f;
  memory[@u32@(values[op->out].place) + i] = sum;
}

/* A parameter goes down its gradient, number `i` of those that `op` learns, at `place`. */
static void Move(const Op *op, int32_t place, uint32_t i, float gradient) {
#if @GUARD@_ADAPT_MOMENTUM_ON
  float *slow = memory + op->momentum + i;
  *slow = kMomentum * *slow + gradient;
  gradient = *slow;
#else
  (void)op;
  (void)i;
#endif
  memory[place] -= rate * gradient;
}

static void Descend(const Op *op, int32_t place, uint32_t i, float gradient) {
#if @GUARD@_ADAPT_BATCH > 1
  (void)place;
  memory[@u32@(op->sums) + i] += gradient;
#else
  Move(op, place, i, gradient);
#endif
}
