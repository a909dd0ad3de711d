"""Side by side with the alternatives: same data, same cores, same process, as ratios."""
