"""How far to trust a mask: calibrated probabilities, an expected Dice, and which missing modality would help most."""
