"""Learn how much slower each class of devices is than the controller, from the latencies that they report.

The factors serve the measurements that are made from now on. Published variants keep what they were published with,
so learning never changes what a device shall run.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from controller.domain.costs import Comparison, learn_factor
from controller.store import costs
from controller.store.costs import ReportedLatency
from controller.store.database import Database


def learn_factors(database: Database, *, now: datetime) -> int:
    """Write the factor of every class of which enough is reported; return how many classes that are.

    The reports are read before the transaction that writes: a report that comes in between is there the next time.
    """
    with database.reading() as tx:
        comparisons = _by_class(costs.reported_latencies(tx))
    learned = {name: found for name, of_class in comparisons.items() if (found := learn_factor(of_class))}
    if learned:
        with database.writing() as tx:
            costs.save_factors(tx, learned, now)
    return len(learned)


def _by_class(reports: Iterable[ReportedLatency]) -> dict[str, list[Comparison]]:
    found: dict[str, list[Comparison]] = defaultdict(list)
    for reported in reports:
        estimated_us, reported_s = reported.cost.p50_us, reported.latency.quantile(0.5)
        if estimated_us is not None and reported_s is not None:
            comparison = Comparison(estimated_us, reported_s * 1e6, reported.latency.count)
            found[reported.device_class].append(comparison)
    return found
