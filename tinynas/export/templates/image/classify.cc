int Classify(const Frame& frame, Resize resize) {
  if (!ready || !QuantizeFrame(frame, InputData(), resize) || !Invoke()) return -1;
  const OutputElement* output = OutputData();
@decide@
}
