"""The Celery application: broker, queues and the settings that its known traps demand.

Messages are hints. They carry a task's name and ids, nothing depends on their arrival, and old ones are worthless
because the sweep derives them again.
"""

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

SWEEP = "sweep"
JOBS_QUEUE = "jobs"
SWEEPS_QUEUE = "sweeps"
"""Sweeps have a queue and a thread of their own: a flood of jobs must not keep them from running."""
HINT_EXPIRES_S = 30.0
"""A hint that no worker took in this time is dropped; otherwise a busy hour would pile up copies of it."""
VISIBILITY_TIMEOUT_S = 3600
_REDIS_OPTIONS = {
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    # kombu waits for ever by default, and so would whoever publishes while Redis hangs.
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "max_retries": 0,
}
_log = structlog.get_logger()


def create_celery(broker_url: str) -> Celery:
    """Return an application on this broker; the empty URL means a queue inside this very process."""
    app = Celery("edgefleet", broker=broker_url or "memory://localhost/", set_as_current=False)
    app.conf.update(
        broker_transport_options=_REDIS_OPTIONS if broker_url else {"polling_interval": 0.05},
        broker_connection_retry_on_startup=True,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_publish_retry=False,
        task_default_queue=JOBS_QUEUE,
        task_routes={SWEEP: {"queue": SWEEPS_QUEUE}},
        task_acks_late=True,
        # Celery redelivers a task that kills its worker without an end; the variant's lease counts attempts.
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


class CeleryTaskQueue:
    """Sends hints through a Celery application."""

    def __init__(self, app: Celery) -> None:
        """Take the application."""
        self._app = app

    def send(self, task: str, *ids: str) -> None:
        """Publish the task; a broker that is away is logged and otherwise ignored."""
        try:
            self._app.send_task(task, args=ids, expires=HINT_EXPIRES_S)
        except (OperationalError, OSError) as error:
            _log.warning("hint not sent; the sweep will find the work", task=task, error=str(error))
