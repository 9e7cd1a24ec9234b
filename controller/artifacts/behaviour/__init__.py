"""How a model behaves: evaluation data, decisions, golden tensors. Only imported in confined children."""
