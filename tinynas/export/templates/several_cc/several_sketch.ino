  for (int i = 0; i < @ns@::kClasses; ++i) {
    if (@ns@::Present(i)) {
      Serial.print("there: ");
      Serial.println(@ns@::kLabels[i]);
    }
  }
