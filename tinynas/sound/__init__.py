"""What is done to sound before a network reads it: the front end's tables and its arithmetic."""
