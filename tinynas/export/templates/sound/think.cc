}  // namespace @ns@

extern "C" int @ns@_think(const uint8_t* ring, int oldest) {
  using namespace @ns@;  // NOLINT
  InputElement* input = Input();
  if (input == nullptr) return 0;
  const int split = oldest * @GUARD@_FEATURES;
  for (int i = 0; i < kInputElements; ++i) input[i] = QuantizePixel(ring[i + split < kInputElements ? i + split : i + split - kInputElements]);
  return Invoke() ? 1 : 0;
}

extern "C" float @ns@_chance(int class_index) { return @ns@::Probability(class_index); }
@level_code@
namespace @ns@ {

int Answer() {
  const OutputElement* output = Output();
  if (output == nullptr) return -1;
@decide@
}
