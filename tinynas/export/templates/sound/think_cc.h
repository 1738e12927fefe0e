// The most likely class of the last run, or -1 before Setup.
int Answer();
