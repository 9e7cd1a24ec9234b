"""A worker of the production wiring: `python -m controller.worker`. Any number may run; one of them sends sweeps."""

from controller.wiring import services_from_environment
from controller.worker.process import run_worker

if __name__ == "__main__":
    run_worker(services_from_environment())
