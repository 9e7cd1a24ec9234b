"""The inference process: loads models and answers requests. The only place that imports onnxruntime."""
