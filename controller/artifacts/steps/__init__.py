"""Compression steps: one small module each, with one interface.

    step(model_path, out_path, calibration, **parameters) -> facts

A step reads one ONNX file and writes another; `calibration` is the path of the evaluation data, or None. It
returns what a person wants to know about what it did, as JSON, and raises InvalidInput(`recipe_inapplicable`) for
a model that it cannot improve. The same file and parameters give the same bytes. Only run in confined children.
"""
