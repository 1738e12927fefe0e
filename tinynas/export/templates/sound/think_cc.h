// @answer_words@ of the last run, or -1 before Setup.
int Answer();
