  bool alike = true;  // one answer was given, which is its own average
  for (int i = 0; i < kClasses; ++i) alike = alike && Present(i) == (kSelfTestThere[0][i] != 0) && @ns@_there(i) == kSelfTestThere[0][i];
  if (!alike) {
    MicroPrintf("@self_test_fail@, other classes are there than should be");
    return false;
  }
