  for (int i = 0; i < @GUARD@_CLASSES; ++i) {
    if (@ns@_present(i)) printf("there: %s\n", @ns@_labels[i]);
  }
