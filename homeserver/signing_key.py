"""The server's signing key on disk: `ed25519 VERSION SEED`, as other servers write it.

Spec: appendices#signing-json
"""

import os
import secrets
from pathlib import Path

from federation.errors import Malformed
from federation.ids import KeyId
from federation.signatures import ED25519, SigningKey, decode_base64, encode_base64

_SEED_BYTES = 32


class UnusableKey(Exception):  # noqa: N818 - reads as a sentence at the raise
    """The signing key file cannot be used; the text says why."""


def read_or_make(path: Path) -> SigningKey:
    """The key in the file, or a new one written there when there is no file.

    Raises: UnusableKey.
    """
    try:
        return parse(path.read_text(encoding="ascii"), path)
    except FileNotFoundError:
        return _make(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableKey(f"cannot read the signing key {path}: {error}") from error


def parse(text: str, path: Path) -> SigningKey:
    """The key in a file's text. Raises: UnusableKey."""
    lines = [line for line in text.splitlines() if line.strip()]
    parts = lines[0].split() if lines else []
    if len(parts) != 3 or parts[0] != "ed25519":
        raise UnusableKey(f"{path} is no signing key: expected 'ed25519 VERSION SEED'")
    try:
        seed = decode_base64(parts[2])
    except Malformed:
        seed = b""
    if len(seed) != _SEED_BYTES:
        raise UnusableKey(f"{path}: the seed must be 32 bytes in base64")
    return SigningKey.from_seed(KeyId(ED25519 + parts[1]), seed)


def _make(path: Path) -> SigningKey:
    key = SigningKey.generate("a_" + secrets.token_hex(3))
    seed = encode_base64(bytes(key.key))
    text = f"ed25519 {key.key_id.removeprefix(ED25519)} {seed}\n"
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # Never over a key that another process has just made.
        os.link(temporary, path)
    except FileExistsError:
        return read_or_make(path)
    except OSError as error:
        raise UnusableKey(f"cannot write the signing key {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return key
