"""`edgefleet demo`: the whole promise with real parts on one machine, told as it happens.

Reading order: `story` (the acts), `fleet` (controller and agents as processes), `digits` (the model and its
three versions), `load` and `central` (what is measured), `screen` and `summary` (how it is told).
"""
