"""Writing the few DER structures that no library writes for us (ITU-T X.690): an encrypted key, a certificate."""

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = bytes((0x05, 0x00))
SEQUENCE = 0x30


def tagged(tag: int, *contents: bytes) -> bytes:
    """Return one element: its tag, its length and its contents one after the other."""
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE of elements."""
    return tagged(SEQUENCE, *contents)


def integer(value: int) -> bytes:
    """Return a whole number that is not negative."""
    return tagged(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def identifier(dotted: str) -> bytes:
    """Return an object identifier, `1.2.840...`."""
    first, second, *rest = map(int, dotted.split("."))
    return tagged(0x06, *map(_in_sevens, (40 * first + second, *rest)))


def _in_sevens(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | number & 0x7F)
    return bytes(reversed(digits))
