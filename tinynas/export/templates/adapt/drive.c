
static void Forward(void) {
  for (uint32_t i = 0; i < kOps; ++i) {
    const Op *op = &ops[i];
    switch (op->kind) {
@forward_cases@
    }
  }
}

/* e^x of x <= 0, by Cephes' polynomial: the same on every machine, where expf is each C library's own. */
static float Exp(float x) {
  if (!(x >= -80.0f)) return 0.0f;
  const int32_t power = @i32@(x * 1.44269504f - 0.5f);
  const float n = @f32@(power);
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r;
  p = p + 1.0f;
  const uint32_t bits = @u32@(power + 127) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

/* Probabilities of all classes, where the gradient of the outputs lies. False where the outputs are no longer numbers. */
static bool Softmax(void) {
  const float *real = memory + values[kOutput].place;
  float *shown = memory + values[kOutput].gradient;
  float most = real[0], sum = 0.0f;
  for (uint32_t i = 1; i < kOutputs; ++i) {
    if (real[i] > most) most = real[i];
  }
  for (uint32_t i = 0; i < kOutputs; ++i) {
    if (!(real[i] - most <= 0.0f)) return false; /* no number, or infinite */
    shown[i] = Exp(real[i] - most);
    sum += shown[i];
  }
  for (uint32_t i = 0; i < kOutputs; ++i) shown[i] = shown[i] / sum;
  return true;
}

/* The gradient of `op` goes on to the tensor `to`, unless it lies there already. */
static void Pass(const Op *op, uint32_t to, bool clear) {
  const float *gradient = memory + values[op->out].gradient;
  float *passed = memory + values[to].gradient;
  if (values[to].gradient == kNowhere || values[to].gradient == values[op->out].gradient) return;
  (void)gradient;
  if (clear) memset(passed, 0, sizeof *passed * elements[to]);
  switch (op->kind) {
@pass_cases@
  }
}

static void Backward(void) {
  for (uint32_t i = kOps; i-- > 0;) {
    const Op *op = &ops[i];
    float *gradient = memory + values[op->out].gradient;
    if (op->mask != kNowhere) {
      const uint8_t *bits = @cu8p@(memory + op->mask);
      for (uint32_t j = 0; j < elements[op->out]; ++j) {
        if ((bits[j >> 3] & 1u << (j & 7u)) == 0) gradient[j] = 0.0f;
      }
    }
    Pass(op, op->in, (clears[i] & 1u) != 0);
    if (op->in2 != op->in) Pass(op, op->in2, (clears[i] & 2u) != 0);
    if (op->weights != kNowhere) {
      switch (op->kind) {
@learn_cases@
      }
    }
    if (op->biases == kNowhere) continue;
    const uint32_t behind = op->weights != kNowhere ? @u32@(op->biases - op->weights) : 0;
    for (uint32_t c = 0; c < op->out_c; ++c) {
      float sum = 0.0f;
      for (uint32_t j = c; j < elements[op->out]; j += op->out_c) sum += gradient[j];
      Descend(op, op->biases + @i32@(c), behind + c, sum);
    }
  }
}

static uint32_t waiting; /* inputs of a batch that were added up */

/* What was added up moves the parameters. */
static void Apply(void) {
#if @GUARD@_ADAPT_BATCH > 1
  const float share = 1.0f / @f32@(waiting);
  for (uint32_t i = 0; i < kOps; ++i) {
    const Op *op = &ops[i];
    const int32_t first = op->weights != kNowhere ? op->weights : op->biases;
    for (uint32_t j = 0; j < learned[i]; ++j) {
      float *sum = memory + op->sums + j;
      Move(op, first + @i32@(j), j, *sum * share);
      *sum = 0.0f;
    }
  }
#endif
  waiting = 0;
}

/* A step from what is kept: false for a label that is none, or where the weights are no longer numbers. */
static bool Learn(int label, float new_rate) {
  if (label < 0 || @u32@(label) >= kOutputs || !begun) return false;
  Forward();
  if (!Softmax()) return false;
  memory[values[kOutput].gradient + label] -= 1.0f;
  rate = new_rate;
  Backward();
  if (++waiting == @GUARD@_ADAPT_BATCH) Apply();
  return true;
}

/* The class of what is kept, or -1 where the weights are no longer numbers. */
static int Answer(void) {
  if (!begun) return -1;
  Forward();
  answered = Softmax();
  if (!answered) return -1;
  const float *real = memory + values[kOutput].place;
  uint32_t best = 0;
  for (uint32_t i = 1; i < kOutputs; ++i) {
    if (real[i] > real[best]) best = i;
  }
  return @int@(best);
}

static void Begin(void) {
  memset(memory, 0, sizeof memory);
  for (uint32_t i = 0; i < kOps; ++i) {
    const Op *op = &ops[i];
    if (op->weights != kNowhere) {
      const uint32_t count = learned[i] - op->out_c;
      /* Weights of one output lie together, but in depthwise convolutions. */
      const uint32_t each = op->kind == kDepthwise ? 0 : @u32@(op->kernel_h) * op->kernel_w * op->in_c;
      for (uint32_t j = 0; j < count; ++j) {
        const uint32_t out = each == 0 ? j % op->out_c : j / each;
        memory[@u32@(op->weights) + j] = op->steps[out] * @f32@(op->fixed[j]);
      }
    }
    if (op->biases != kNowhere) memcpy(memory + op->biases, op->first, sizeof *memory * op->out_c);
  }
  waiting = 0;
  answered = false;
  begun = true;
}

/* The blob: words of 32 bits, low byte first: magic, key, number of parameters, the parameters, sum. */
static void PutWord(uint8_t *to, uint32_t word) {
  for (uint32_t i = 0; i < 4; ++i) to[i] = @u8@(word >> 8 * i);
}

static uint32_t GetWord(const uint8_t *from) {
  uint32_t word = 0;
  for (uint32_t i = 0; i < 4; ++i) word |= @u32@(from[i]) << 8 * i;
  return word;
}

/* FNV-1a. */
static uint32_t SumOf(const uint8_t *bytes, uint32_t count) {
  uint32_t sum = 2166136261u;
  for (uint32_t i = 0; i < count; ++i) sum = (sum ^ bytes[i]) * 16777619u;
  return sum;
}

static float *Parameter(uint32_t op, uint32_t i) {
  return memory + (ops[op].weights != kNowhere ? ops[op].weights : ops[op].biases) + i;
}

static uint32_t Save(uint8_t *to, uint32_t room) {
  if (to == @NULL@ || room < @GUARD@_ADAPT_BLOB_BYTES || !begun) return 0;
  uint8_t *at = to + 12;
  PutWord(to, kMagic);
  PutWord(to + 4, kKey);
  PutWord(to + 8, kParameters);
  for (uint32_t i = 0; i < kOps; ++i) {
    for (uint32_t j = 0; j < learned[i]; ++j, at += 4) {
      uint32_t bits;
      memcpy(&bits, Parameter(i, j), sizeof bits);
      PutWord(at, bits);
    }
  }
  PutWord(at, SumOf(to, @GUARD@_ADAPT_BLOB_BYTES - 4u));
  return @GUARD@_ADAPT_BLOB_BYTES;
}

static bool Restore(const uint8_t *from, uint32_t bytes) {
  if (from == @NULL@ || bytes < @GUARD@_ADAPT_BLOB_BYTES || GetWord(from) != kMagic || GetWord(from + 4) != kKey) return false;
  if (GetWord(from + 8) != kParameters) return false;
  if (GetWord(from + @GUARD@_ADAPT_BLOB_BYTES - 4u) != SumOf(from, @GUARD@_ADAPT_BLOB_BYTES - 4u)) return false;
  Begin();
  from += 12;
  for (uint32_t i = 0; i < kOps; ++i) {
    for (uint32_t j = 0; j < learned[i]; ++j, from += 4) {
      const uint32_t bits = GetWord(from);
      memcpy(Parameter(i, j), &bits, sizeof bits);
    }
  }
  return true;
}

static uint32_t Learned(uint32_t sum) {
  for (uint32_t i = 0; i < kOps; ++i) {
    for (uint32_t j = 0; j < learned[i]; ++j) {
      uint8_t bytes[4];
      uint32_t bits;
      memcpy(&bits, Parameter(i, j), sizeof bits);
      PutWord(bytes, bits);
      for (uint32_t k = 0; k < 4; ++k) sum = (sum ^ bytes[k]) * 16777619u;
    }
  }
  return sum;
}

static void KeptOf(const int8_t *block) {
  for (uint32_t i = 0; i < kKept; ++i) {
    kept[i] = block;
    block += kept_bytes[i];
  }
}
