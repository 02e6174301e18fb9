"""A criterion fused with the output layer: the (N, C) logits are never held.

A block of classes at a time, the logits are computed and reduced to a few numbers a row; the backward pass
computes them again. Values and gradients are those of the layer followed by the criterion.

`LinearCriterion` is a head and a criterion in one, called with features; `linear_loss` is the same as a
function of features and the weight and bias of a linear layer.
"""

from criterium.linear.criterion import LinearCriterion, linear_loss

__all__ = ["LinearCriterion", "linear_loss"]
