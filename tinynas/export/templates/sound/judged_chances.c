/* 65,535 e^-x, x the real value of so many steps of an output; beyond them it is less than a half. */
#define FALLING @falling_count@
static const uint16_t falling[FALLING] = {@falling_values@};

/* Of each class the probability that the newest outputs give it, of 255: their softmax, in integers. */
static void chances(uint8_t *scores) {
  const int8_t *output = @ns@_output();
  int most = output[0];
  uint32_t sum = 0;
  for (int i = 1; i < CLASSES; ++i) most = output[i] > most ? output[i] : most;
  for (int i = 0; i < CLASSES; ++i) sum += most - output[i] < FALLING ? falling[most - output[i]] : 0u;
  for (int i = 0; i < CLASSES; ++i) {
    const uint32_t share = most - output[i] < FALLING ? falling[most - output[i]] : 0u;
    scores[i] = (uint8_t)((255u * share + sum / 2u) / sum);
  }
}

