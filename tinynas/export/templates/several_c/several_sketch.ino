  for (int i = 0; i < @GUARD@_CLASSES; ++i) {
    if (@ns@_present(i)) {
      Serial.print("there: ");
      Serial.println(@ns@_labels[i]);
    }
  }
