"""Ed25519 as its equation alone, without the rules of which bytes may be put into it.

Source:
    RFC 8032, 5.1.
"""

from __future__ import annotations

import hashlib
from typing import Final

from nacl.exceptions import CryptoError

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P
TOP: Final = 1 << 255
"""The bit of an encoding that tells the sign of x."""

Point = tuple[int, int]


def decoded(data: bytes) -> Point:
    """Return a point, whatever spells it."""
    number = int.from_bytes(data, "little")
    y = number % TOP % P
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        raise CryptoError
    return (-x % P if x % 2 != number // TOP else x), y


def added(one: Point, two: Point) -> Point:
    (a, b), (c, d) = one, two
    cross = D * a * b * c * d
    return (a * d + b * c) * pow(1 + cross, -1, P) % P, (b * d + a * c) * pow(1 - cross, -1, P) % P


def times(count: int, point: Point) -> Point:
    total = (0, 1)
    while count:
        total, point, count = added(total, point) if count & 1 else total, added(point, point), count >> 1
    return total


BASE: Final = decoded(b"\x58" + b"\x66" * 31)


def loose_open(signed: bytes, public: bytes) -> bytes:
    """Open as libsodium does, but with any spelling of key, R and S, and points of small order."""
    first, scalar, message = signed[:32], int.from_bytes(signed[32:64], "little"), signed[64:]
    challenge = int.from_bytes(hashlib.sha512(first + public + message).digest(), "little") % L
    if times(scalar, BASE) != added(decoded(first), times(challenge, decoded(public))):
        raise CryptoError
    return message
