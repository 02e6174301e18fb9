"""What changes training beside the objective: usable alone, in any PyTorch loop."""
