"""Objectives on tensors: segmentation, and agreement between networks."""
