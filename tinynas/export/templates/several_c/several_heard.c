  for (int i = 0; i < @GUARD@_CLASSES; ++i) { /* one answer was given, which is its own average */
    if (@ns@_present(i) != @ns@_self_test_there[0][i] || @ns@_there(i) != @ns@_self_test_there[0][i]) {
      print("@self_test_fail@, other classes are there than should be");
      return false;
    }
  }
