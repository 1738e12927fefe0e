"""Learnings: what ``tinynas adapt`` does with the learning of :mod:`tinynas.adapt`: one, or many side by side, and their documents."""
