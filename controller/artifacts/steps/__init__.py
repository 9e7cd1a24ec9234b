"""Compression steps: one small module each, over plain ONNX, with one interface.

    apply(model, parameters, calibration, tell) -> Applied

`interface.py` has the types, `parameters.py` the parameters of every step and the table of steps. A step changes a
copy of the graph, or refuses with InvalidInput(`recipe_inapplicable`) a graph that it cannot improve, saying why.
The same graph, parameters and calibration data give the same bytes. Steps run in confined children only.
"""
