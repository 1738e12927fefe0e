int @ns@_present(int class_index) {
  if (!answered || class_index < 0 || class_index >= @GUARD@_CLASSES) return 0;
  return @ns@_output()[class_index] >= thresholds[class_index];
}

