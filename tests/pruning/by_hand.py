"""Compute AdapLeR's soft removal in plain Python."""


def soft_removal_by_hand(score, threshold, slope):
    below = slope / threshold * (score - threshold) - 0.1 / slope
    above = (score - 1.0) * 0.1 / slope / (1.0 - threshold)
    return max(-10000.0, min(0.0, below, above))
