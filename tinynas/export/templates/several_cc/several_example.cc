  for (int i = 0; i < @ns@::kClasses; ++i) {
    if (@ns@::Present(i)) printf("there: %s\n", @ns@::kLabels[i]);
  }
