
/* Convolutions, and dense layers, which are convolutions of one pixel. Weights: [output][row][column][input]. */
static float ConvWeight(const Op *op, uint32_t i) { return op->weights != kNowhere ? memory[@u32@(op->weights) + i] : @f32@(op->fixed[i]); }

static void ConvForward(const Op *op) {
  const Source source = SourceOf(op->in);
  uint32_t to = 0;
  for (uint32_t y = 0; y < op->out_h; ++y) {
    for (uint32_t x = 0; x < op->out_w; ++x) {
      uint32_t weight = 0;
      for (uint32_t out = 0; out < op->out_c; ++out) {
        float sum = 0.0f;
        for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
          for (uint32_t kx = 0; kx < op->kernel_w; ++kx, weight += op->in_c) {
            uint32_t first;
            if (!Pixel(op, y, x, ky, kx, &first)) continue;
            for (uint32_t in = 0; in < op->in_c; ++in) sum += ConvWeight(op, weight + in) * At(&source, first + in);
          }
        }
        const float step = op->weights != kNowhere ? source.scale : source.scale * op->steps[out];
        const float bias = op->biases != kNowhere ? memory[@u32@(op->biases) + out] : op->first[out];
        Finish(op, to++, sum * step + bias);
      }
    }
  }
}

static void ConvPass(const Op *op, const float *gradient, float *passed) {
  for (uint32_t y = 0; y < op->out_h; ++y) {
    for (uint32_t x = 0; x < op->out_w; ++x) {
      uint32_t weight = 0;
      for (uint32_t out = 0; out < op->out_c; ++out) {
        float arrived = *gradient++;
        if (op->weights == kNowhere) arrived = arrived * op->steps[out];
        for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
          for (uint32_t kx = 0; kx < op->kernel_w; ++kx, weight += op->in_c) {
            uint32_t first;
            if (!Pixel(op, y, x, ky, kx, &first)) continue;
            for (uint32_t in = 0; in < op->in_c; ++in) passed[first + in] += arrived * ConvWeight(op, weight + in);
          }
        }
      }
    }
  }
}

static void ConvLearn(const Op *op, const float *gradient) {
  const Source source = SourceOf(op->in);
  uint32_t weight = 0;
  for (uint32_t out = 0; out < op->out_c; ++out) {
    for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
      for (uint32_t kx = 0; kx < op->kernel_w; ++kx) {
        for (uint32_t in = 0; in < op->in_c; ++in, ++weight) {
          float sum = 0.0f;
          const float *arrived = gradient + out;
          for (uint32_t y = 0; y < op->out_h; ++y) {
            for (uint32_t x = 0; x < op->out_w; ++x, arrived += op->out_c) {
              uint32_t first;
              if (Pixel(op, y, x, ky, kx, &first)) sum += *arrived * At(&source, first + in);
            }
          }
          Descend(op, op->weights + @i32@(weight), weight, sum * source.scale);
        }
      }
    }
  }
}
