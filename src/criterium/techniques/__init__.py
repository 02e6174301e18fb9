"""What changes training besides the objective: usable alone, in any PyTorch loop."""
