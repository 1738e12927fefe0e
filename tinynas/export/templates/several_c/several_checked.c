    for (int i = 0; i < @GUARD@_CLASSES; ++i) {
      if (@ns@_present(i) != @ns@_self_test_there[image][i]) {
        snprintf(line, sizeof line, "@ns@ self-test: image %d: class \"%.40s\" is %s", image, @ns@_labels[i],
                 @ns@_present(i) ? "there" : "not there");
        print(line);
        passed = false;
      }
    }
