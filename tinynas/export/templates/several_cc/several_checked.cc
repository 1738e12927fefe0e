    for (int i = 0; i < kClasses; ++i) {
      if (Present(i) != (kSelfTestThere[image][i] != 0)) {
        MicroPrintf("@ns@ self-test: image %d: class \"%s\" is %s", image, kLabels[i], Present(i) ? "there" : "not there");
        passed = false;
      }
    }
