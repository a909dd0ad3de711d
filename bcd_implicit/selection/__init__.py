"""Selection of inputs: paths, cross-validation, exact numbers, stability and knockoffs."""
