"""The Open Inference Protocol V2 over HTTP/REST: health, metadata and inference for what the slots serve.

Source: Open Inference Protocol, "HTTP/REST"; statuses as Triton's client reads them: success is exactly 200,
and every other body is `{"error": "..."}`. 400 is a request that does not fit, 404 a model or version that is
not served here, 500 a model that failed, 503 a process that is stopping.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as distribution_version
from urllib.parse import unquote

from device_agent.serving.errors import ModelFailed, RequestRefused
from device_agent.serving.http_messages import Request, Response, error_response
from device_agent.serving.inference_messages import describe, parse_inference, render_inference, to_json_bytes
from device_agent.serving.slots import Occupant, Slots
from device_agent.serving.tensors import wire_bytes

PLATFORM = "onnx_onnxv1"
INLINE_S = 0.002
INLINE_BODY_BYTES_MAX = 64 * 1024
"""Quick models answer small requests on the event loop itself: handing over to a thread costs 90 us."""


class OpenInference:
    """Answers the public port. Counts as latency the time from a whole request to its whole answer."""

    def __init__(self, slots: Slots, pool: ThreadPoolExecutor) -> None:
        """Take the slots to serve from, and the pool of one thread for what is not quick."""
        self._slots = slots
        self._pool = pool
        self._server: dict[str, object] = {
            "name": "edgefleet",
            "version": distribution_version("edgefleet"),
            "extensions": [],
        }
        self.ready = True
        """False from the moment the process begins to stop."""

    async def handle(self, request: Request) -> Response:
        """Answer one request; never raises for anything that a client can send."""
        path = request.path.strip("/").split("/")
        if "%" in request.path:
            path = [unquote(segment) for segment in path]
        try:
            match path:
                case ["v2", "models", model, "infer"]:
                    return await self._infer(request, model, None)
                case ["v2", "models", model, "versions", version, "infer"]:
                    return await self._infer(request, model, version)
                case _:
                    return self._describe(request, path)
        except RequestRefused as refusal:
            return error_response(refusal.status, str(refusal))

    def _describe(self, request: Request, path: list[str]) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _wrong_method(request, "GET, HEAD")
        match path:
            case ["v2"]:
                return _ok(self._server)
            case ["v2", "health", "live"]:
                return _ok({"live": True})
            case ["v2", "health", "ready"]:
                return _ok({"ready": True}) if self.ready else error_response(503, "the process is stopping")
            case ["v2", "models", model]:
                return _metadata(self._slots.find(model))
            case ["v2", "models", model, "versions", version]:
                return _metadata(self._slots.find(model, version))
            case ["v2", "models", model, "ready"]:
                return _model_ready(self._slots.find(model))
            case ["v2", "models", model, "versions", version, "ready"]:
                return _model_ready(self._slots.find(model, version))
        raise RequestRefused(404, f"there is nothing at {request.path[:200]}")

    async def _infer(self, request: Request, model: str, version: str | None) -> Response:
        if request.method != "POST":
            return _wrong_method(request, "POST")
        started_s = time.perf_counter()
        with self._slots.find(model, version) as occupant:
            quick = occupant.model.warm_up_s < INLINE_S and len(request.body) <= INLINE_BODY_BYTES_MAX
            try:
                if quick:
                    body, input_bytes = _answer(occupant, request)
                else:
                    loop = asyncio.get_running_loop()
                    body, input_bytes = await loop.run_in_executor(self._pool, _answer, occupant, request)
            except ModelFailed as failure:
                occupant.counters.record(0.0, input_bytes=0, failed=True)
                return error_response(500, str(failure))
            latency_s = time.perf_counter() - started_s
            occupant.counters.record(latency_s, input_bytes=input_bytes, failed=False)
        return Response(200, body)


def _answer(occupant: Occupant, request: Request) -> tuple[bytes, int]:
    """Return the response body and the bytes of the input tensors; safe on any thread."""
    model, order = occupant.model, occupant.order
    inference = parse_inference(request.headers, request.body, model.signature)
    results = model.run(inference.outputs, inference.feeds)
    body = render_inference(order.slot, order.version, inference, results, model.signature)
    return body, sum(wire_bytes(array) for array in inference.feeds.values())


def _wrong_method(request: Request, allowed: str) -> Response:
    return error_response(405, f"method is {request.method[:20]}; expected {allowed}", ("allow", allowed))


def _metadata(occupant: Occupant) -> Response:
    signature = occupant.model.signature
    return _ok(
        {
            "name": occupant.order.slot,
            "versions": [occupant.order.version],
            "platform": PLATFORM,
            "inputs": describe(signature.inputs),
            "outputs": describe(signature.outputs),
        }
    )


def _model_ready(occupant: Occupant) -> Response:
    return _ok({"name": occupant.order.slot, "ready": True})


def _ok(document: dict[str, object]) -> Response:
    return Response(200, to_json_bytes(document))
