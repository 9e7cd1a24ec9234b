"""The device API as the schema shows it. What devices do rarely is served here, the rest by `asgi.py`."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from controller.api.device.asgi import AsgiApp, AssignmentHandler, Receive, ReportsHandler, Scope, Send, read_body
from controller.api.device.hot_path import HotPath
from controller.domain.errors import NotAllowed
from controller.store import devices
from controller.store.database import Database
from controller.trust.errors import Refusal
from controller.trust.sessions import ENVELOPE_BYTES_MAX, Sessions
from controller.use_cases.enrol_device import enrol_device
from device_agent.protocol.messages import EnrolmentRequest
