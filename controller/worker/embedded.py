"""The embedded worker, a child of the server: `python -m controller.worker.embedded`.

Queue, workers and beat live in this one process. It ends with its parent, however the parent ends, because the
pipe on its standard input then ends.
"""

from controller.wiring import services_from_environment
from controller.worker.process import run_worker

if __name__ == "__main__":
    run_worker(services_from_environment(), until_stdin_ends=True)
