"""How good a model is: metrics, comparison, report, TensorBoard."""
