"""Where a device stands with the people who run the fleet: waiting, in, or out for good."""

from enum import StrEnum


class DeviceState(StrEnum):
    """What a device may do follows from this."""

    PENDING = "pending"
    """It has proven its key; a person decides whether it belongs here. It gets nothing and counts nowhere."""
    APPROVED = "approved"
    REVOKED = "revoked"
    """Its key speaks for nobody any more. The machine comes back as another device, with a new key and token."""
