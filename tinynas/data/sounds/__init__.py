"""The wing of sounds: recordings in folders and tables, cut into what a network hears at once."""
