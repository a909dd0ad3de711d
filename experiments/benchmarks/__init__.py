"""Side by side with the alternatives: the same data, the same cores, the same process, as ratios."""
