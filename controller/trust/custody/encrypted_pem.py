"""Private keys encrypted with a passphrase: PKCS#8 (RFC 5958), PBES2 with scrypt (RFC 7914) and AES-256-CBC.

Written here because the library's own writer stretches the passphrase by 2,048 rounds of PBKDF2 and takes no other
number. It reads this form, and so does OpenSSL: `openssl pkey -in KEY.pem`.
"""

import base64
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

from controller.trust.custody.der import OCTET_STRING, identifier, integer, sequence, tagged

SCRYPT_COST = 2**14
"""16 MiB and some 50 ms for every guess, the most that OpenSSL reads within its default bound on memory."""
SCRYPT_BLOCK = 8
_SALT_BYTES = 16
_AES_BLOCK_BYTES = 16
_PBES2 = "1.2.840.113549.1.5.13"
_SCRYPT = "1.3.6.1.4.1.11591.4.11"
_AES256_CBC = "2.16.840.1.101.3.4.1.42"
BEGIN = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
_END = "-----END ENCRYPTED PRIVATE KEY-----"


def encrypt_pkcs8(der: bytes, passphrase: str) -> bytes:
    """Return an unencrypted PKCS#8 key in DER as an encrypted one in PEM."""
    salt, vector = os.urandom(_SALT_BYTES), os.urandom(_AES_BLOCK_BYTES)
    key = Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=SCRYPT_BLOCK, p=1).derive(passphrase.encode())
    padder = PKCS7(8 * _AES_BLOCK_BYTES).padder()
    encryptor = Cipher(AES(key), CBC(vector)).encryptor()
    encrypted = encryptor.update(padder.update(der) + padder.finalize()) + encryptor.finalize()
    stretching = sequence(tagged(OCTET_STRING, salt), integer(SCRYPT_COST), integer(SCRYPT_BLOCK), integer(1))
    scheme = sequence(
        sequence(identifier(_SCRYPT), stretching),
        sequence(identifier(_AES256_CBC), tagged(OCTET_STRING, vector)),
    )
    info = sequence(sequence(identifier(_PBES2), scheme), tagged(OCTET_STRING, encrypted))
    lines = textwrap.wrap(base64.b64encode(info).decode(), 64)
    return "\n".join([BEGIN, *lines, _END, ""]).encode()
