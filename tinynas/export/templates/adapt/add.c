
static uint32_t Elements(const Op *op) { return @u32@(op->out_h) * op->out_w * op->out_c; }

static void AddForward(const Op *op) {
  const Source one = SourceOf(op->in), other = SourceOf(op->in2);
  for (uint32_t i = 0; i < Elements(op); ++i) {
    const float first = one.scale * At(&one, i), second = other.scale * At(&other, i);
    Finish(op, i, first + second);
  }
}

static void AddPass(const Op *op, const float *gradient, float *passed) {
  for (uint32_t i = 0; i < Elements(op); ++i) passed[i] += gradient[i];
}
