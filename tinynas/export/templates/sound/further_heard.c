  for (int frame = 0; frame < @self_test_further@; ++frame) @ns@_think(@ns@_self_test_frames + frame % @GUARD@_FRAMES * @GUARD@_FEATURES);
  passed = largest_difference(1, @ns@_self_test_later, print) == 0 && passed;
