"""Annotations as data sets that other tools read: split without leaks, with a card and a schema."""
