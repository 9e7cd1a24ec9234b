"""The tasks: thin, by name, with ids only. What they do is in the use cases."""

from collections.abc import Callable, Mapping

from celery import Celery

from controller.domain.catalog import VariantState
from controller.domain.ids import VariantId
from controller.use_cases.compress_variant import compress_variant
from controller.use_cases.evaluate_variant import evaluate_variant
from controller.use_cases.measure_variant import measure_variant
from controller.use_cases.publish_variant import publish_variant
from controller.use_cases.sweep import Hook, sweep
from controller.use_cases.variant_work import Workshop
from controller.wiring import Services
from controller.worker.app import SWEEP, CeleryTaskQueue

VariantTask = Callable[[Workshop, VariantId], VariantState | None]
VARIANT_TASKS: dict[str, VariantTask] = {
    "compress_variant": compress_variant,
    "evaluate_variant": evaluate_variant,
    "measure_variant": measure_variant,
    "publish_variant": publish_variant,
}


def register_variant_tasks(app: Celery, shop: Workshop) -> None:
    """Give the application the tasks that move variants on.

    They hold the workshop: register where they run. They are not shared, or Celery would give them to every other
    application of the process.
    """
    for name, use_case in VARIANT_TASKS.items():
        _register_variant_task(app, name, use_case, shop)


def register_sweep(app: Celery, shop: Workshop, hooks: Mapping[str, Hook]) -> None:
    """Give the application the sweep."""

    @app.task(name=SWEEP, shared=False)  # type: ignore[untyped-decorator]
    def _sweep() -> None:
        sweep(shop.database, shop.tasks, hooks, now=shop.clock())


def workshop(services: Services, owner: str, app: Celery) -> Workshop:
    """Return what the variant tasks work with."""
    settings = services.settings
    return Workshop(
        database=services.database,
        blobs=services.blobs,
        image_repository=services.image_repository,
        signer=services.signer,
        tasks=CeleryTaskQueue(app),
        clock=services.clock,
        owner=owner,
        lease_s=settings.lease_s,
        limits=services.limits,
        accuracy_drop_max=settings.accuracy_drop_max,
    )


def _register_variant_task(app: Celery, name: str, use_case: VariantTask, shop: Workshop) -> None:
    @app.task(name=name, shared=False)  # type: ignore[untyped-decorator]
    def _run(variant_id: str) -> None:
        use_case(shop, VariantId(variant_id))
