"""Model bytes: the blob store, inspection, compression, evaluation, golden tensors."""
