"""The only code that loops: training, inference, evaluation, selection."""
