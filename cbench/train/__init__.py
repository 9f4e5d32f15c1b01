"""Training: the base class of a paper's training module, the loop, and what happens besides."""
