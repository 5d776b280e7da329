"""Prepared cases → tensors."""
