
/* The mean of a map. */
static float Share(const Op *op) { return 1.0f / @f32@(op->in_h * op->in_w); }

static void MeanForward(const Op *op) {
  const Source source = SourceOf(op->in);
  const uint32_t pixels = @u32@(op->in_h) * op->in_w;
  for (uint32_t c = 0; c < op->out_c; ++c) {
    float sum = 0.0f;
    for (uint32_t pixel = 0; pixel < pixels; ++pixel) sum += At(&source, pixel * op->in_c + c);
    Finish(op, c, sum * (source.scale * Share(op)));
  }
}

static void MeanPass(const Op *op, const float *gradient, float *passed) {
  const uint32_t pixels = @u32@(op->in_h) * op->in_w;
  for (uint32_t pixel = 0; pixel < pixels; ++pixel) {
    for (uint32_t c = 0; c < op->out_c; ++c) *passed++ += gradient[c] * Share(op);
  }
}
