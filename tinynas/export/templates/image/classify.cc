int Classify(const Frame& frame, Resize resize) {
  if (!ready || !QuantizeFrame(frame, InputData(), resize) || !Invoke()) return -1;
  const OutputElement* output = OutputData();
  int best = 0;
  for (int i = 1; i < kClasses; ++i) {
    if (output[i] > output[best]) best = i;
  }
  return best;
}
