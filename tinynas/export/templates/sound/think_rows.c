int @ns@_think(const uint8_t *ring, int oldest) {
  answered = false;
  @ns@_init(&network);
  for (int i = 0; i < @GUARD@_FRAMES; ++i) {
    if (@ns@_push_row(&network, ring + (oldest + i) % @GUARD@_FRAMES * @GUARD@_FEATURES)) answered = true;
  }
  return answered;
}

float @ns@_chance(int class_index) { return @ns@_probability(class_index); }
@level_code@