"""The words of the field: modalities, regions, tasks, cases. Standard library only."""
