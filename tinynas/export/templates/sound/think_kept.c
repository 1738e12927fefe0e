int @ns@_think(const uint8_t *ring, int oldest) {
  const uint32_t split = (uint32_t)oldest * @GUARD@_FEATURES, all = @GUARD@_FRAMES * @GUARD@_FEATURES;
  uint8_t *frame = @ns@_frame(&network);
  for (uint32_t i = 0; i < all; ++i) frame[i] = ring[i + split < all ? i + split : i + split - all];
  @ns@_run(&network, NULL);
  answered = true;
  return 1;
}

float @ns@_chance(int class_index) { return @ns@_probability(class_index); }
@level_code@