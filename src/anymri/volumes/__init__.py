"""Bytes on disk ↔ arrays on voxel grids."""

from anymri.volumes.volume import Box, Grid, Volume

__all__ = ["Box", "Grid", "Volume"]
