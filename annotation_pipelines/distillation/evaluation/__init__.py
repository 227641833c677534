"""Figures of students and teacher on gold that no training step saw; `distillation.evaluate` puts them together."""
