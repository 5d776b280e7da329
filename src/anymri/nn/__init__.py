"""Building blocks. They know shapes, not tasks."""
