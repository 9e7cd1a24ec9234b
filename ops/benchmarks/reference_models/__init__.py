"""The networks that the benchmark `compress` compresses: made here, seeded, without a training framework or a download.

Each module has functions that return a `Reference`. Trained weights are kept between runs, see `cache.py`.
"""

from collections.abc import Callable

from ops.benchmarks.reference_models.digits import digits_conv, digits_mlp
from ops.benchmarks.reference_models.reference import Reference
from ops.benchmarks.reference_models.tabular import tabular_gradient_boosting, tabular_mlp
from ops.benchmarks.reference_models.transformer import transformer_block

REFERENCES: dict[str, Callable[[], Reference]] = {
    "digits_mlp": digits_mlp,
    "digits_conv": digits_conv,
    "tabular_mlp": tabular_mlp,
    "tabular_gradient_boosting": tabular_gradient_boosting,
    "transformer_block": transformer_block,
}
"""By the name that the findings carry."""
