"""The server's signing key on disk: `ed25519 VERSION SEED`, as other servers write it.

Keys that were replaced stand beside it in a file of their own, by their public halves:
`ed25519 VERSION KEY EXPIRED_TS`. Events that they signed stay valid for ever. The time
is 0 until the server has started with the new key: until then it signs with the old.

Spec: appendices#signing-json
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from federation.errors import Malformed
from federation.ids import KeyId
from federation.server_keys import OldVerifyKey
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


def rotate(path: Path) -> tuple[SigningKey, SigningKey]:
    """Replace the key in the file by a new one; the old and the new one.

    The old one is noted before it is replaced, so that it is never lost.

    Raises: UnusableKey.
    """
    try:
        old = parse(path.read_text(encoding="ascii"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableKey(f"cannot read the signing key {path}: {error}") from error
    retired = _read_old(path)
    retired[old.key_id] = OldVerifyKey(old.public, 0)
    new = _new_key()
    try:
        _replace(old_path(path), _old_text(retired))
        _replace(path, _text(new))
    except OSError as error:
        raise UnusableKey(f"cannot write the signing key {path}: {error}") from error
    return old, new


def old_path(path: Path) -> Path:
    """The file of the keys that were replaced."""
    return path.with_name(path.name + ".old")


def read_old(
    path: Path, current: SigningKey, now_ms: int
) -> Mapping[KeyId, OldVerifyKey]:
    """The keys that were replaced, and until when each was used.

    One that was in use until now expires now. Raises: UnusableKey.
    """
    retired = _read_old(path)
    # Replaced keys that are in use again, because somebody put the file back.
    retired.pop(current.key_id, None)
    pending = [key_id for key_id, old in retired.items() if not old.expired_ts]
    for key_id in pending:
        retired[key_id] = OldVerifyKey(retired[key_id].public, now_ms)
    if pending:
        try:
            _replace(old_path(path), _old_text(retired))
        except OSError as error:
            raise UnusableKey(f"cannot write {old_path(path)}: {error}") from error
    return retired


def _read_old(path: Path) -> dict[KeyId, OldVerifyKey]:
    file = old_path(path)
    try:
        text = file.read_text(encoding="ascii")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UnusableKey(f"cannot read the old keys {file}: {error}") from error
    retired: dict[KeyId, OldVerifyKey] = {}
    for line in filter(str.strip, text.splitlines()):
        try:
            algorithm, version, public, expired_ts = line.split()
            key_id = KeyId(f"{algorithm}:{version}")
            retired[key_id] = OldVerifyKey(decode_base64(public), int(expired_ts))
        except (ValueError, Malformed):
            raise UnusableKey(
                f"{file} is no list of old keys: expected "
                "'ed25519 VERSION KEY EXPIRED_TS' in each line"
            ) from None
    return retired


def _old_text(retired: Mapping[KeyId, OldVerifyKey]) -> str:
    return "".join(
        f"ed25519 {key_id.removeprefix(ED25519)} {encode_base64(old.public)} "
        f"{old.expired_ts}\n"
        for key_id, old in retired.items()
    )


def _new_key() -> SigningKey:
    return SigningKey.generate("a_" + secrets.token_hex(3))


def _text(key: SigningKey) -> str:
    seed = encode_base64(bytes(key.key))
    return f"ed25519 {key.key_id.removeprefix(ED25519)} {seed}\n"


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    _write(temporary, text)
    temporary.replace(path)


def _make(path: Path) -> SigningKey:
    key = _new_key()
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(temporary, _text(key))
        # Never over a key that another process has just made.
        os.link(temporary, path)
    except FileExistsError:
        return read_or_make(path)
    except OSError as error:
        raise UnusableKey(f"cannot write the signing key {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return key
