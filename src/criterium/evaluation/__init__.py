"""From predictions to numbers: pure functions of logits, targets and scores, without a model or torch."""
