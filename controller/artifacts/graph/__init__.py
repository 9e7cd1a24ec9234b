"""ONNX files: reading untrusted ones, describing them, running them. Only imported in confined children."""
