
/* Depthwise convolutions. Weights: [row][column][channel]. */
static float DepthwiseWeight(const Op *op, uint32_t i) {
  return op->weights != kNowhere ? memory[@u32@(op->weights) + i] : @f32@(op->fixed[i]);
}

static void DepthwiseForward(const Op *op) {
  const Source source = SourceOf(op->in);
  uint32_t to = 0;
  for (uint32_t y = 0; y < op->out_h; ++y) {
    for (uint32_t x = 0; x < op->out_w; ++x) {
      for (uint32_t c = 0; c < op->out_c; ++c) {
        float sum = 0.0f;
        uint32_t weight = c;
        for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
          for (uint32_t kx = 0; kx < op->kernel_w; ++kx, weight += op->out_c) {
            uint32_t first;
            if (Pixel(op, y, x, ky, kx, &first)) sum += DepthwiseWeight(op, weight) * At(&source, first + c);
          }
        }
        const float step = op->weights != kNowhere ? source.scale : source.scale * op->steps[c];
        const float bias = op->biases != kNowhere ? memory[@u32@(op->biases) + c] : op->first[c];
        Finish(op, to++, sum * step + bias);
      }
    }
  }
}

static void DepthwisePass(const Op *op, const float *gradient, float *passed) {
  for (uint32_t y = 0; y < op->out_h; ++y) {
    for (uint32_t x = 0; x < op->out_w; ++x) {
      for (uint32_t c = 0; c < op->out_c; ++c) {
        float arrived = *gradient++;
        uint32_t weight = c;
        if (op->weights == kNowhere) arrived = arrived * op->steps[c];
        for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
          for (uint32_t kx = 0; kx < op->kernel_w; ++kx, weight += op->out_c) {
            uint32_t first;
            if (Pixel(op, y, x, ky, kx, &first)) passed[first + c] += arrived * DepthwiseWeight(op, weight);
          }
        }
      }
    }
  }
}

static void DepthwiseLearn(const Op *op, const float *gradient) {
  const Source source = SourceOf(op->in);
  uint32_t weight = 0;
  for (uint32_t ky = 0; ky < op->kernel_h; ++ky) {
    for (uint32_t kx = 0; kx < op->kernel_w; ++kx) {
      for (uint32_t c = 0; c < op->out_c; ++c, ++weight) {
        float sum = 0.0f;
        const float *arrived = gradient + c;
        for (uint32_t y = 0; y < op->out_h; ++y) {
          for (uint32_t x = 0; x < op->out_w; ++x, arrived += op->out_c) {
            uint32_t first;
            if (Pixel(op, y, x, ky, kx, &first)) sum += *arrived * At(&source, first + c);
          }
        }
        Descend(op, op->weights + @i32@(weight), weight, sum * source.scale);
      }
    }
  }
}
