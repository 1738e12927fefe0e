bool Present(int class_index) {
  if (!ready || class_index < 0 || class_index >= kClasses) return false;
  return OutputData()[class_index] >= kThresholds[class_index];
}

