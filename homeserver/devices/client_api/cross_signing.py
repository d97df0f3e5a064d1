"""Endpoints about cross-signing. Spec: client-server-api#cross-signing."""

from collections.abc import Mapping
from typing import Final

from federation import canonical_json
from federation.canonical_json import JsonObject, JsonValue
from federation.errors import BadSignature, ProtocolError
from federation.ids import DeviceId, UserId
from federation.signatures import check_json, decode_base64
from homeserver import errors
from homeserver.accounts import oauth_stage, uia
from homeserver.accounts.confirming import confirmation
from homeserver.accounts.store.uia_sessions import UiaSession
from homeserver.context import Context
from homeserver.devices import checks
from homeserver.devices.client_api.keys import KEYS, user_of
from homeserver.devices.store import cross_signing as store
from homeserver.devices.store.cross_signing import Signature, SigningKey
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind

USAGES: Final = ("master", "self_signing", "user_signing")
MAX_SIGNED: Final = 1000
_TRIES: Final = 3


@route(
    "POST",
    KEYS + "/device_signing/upload",
    auth=by_access_token,
    limit=writes,
    since="1.1",
)
async def upload_cross_signing_keys(ctx: Context, request: ClientRequest) -> Answer:
    """Publish cross-signing keys. Other keys than before need the user's password.

    Raises: 401 with the stages of authentication; M_MISSING_PARAM without a master
    key; M_INVALID_SIGNATURE; M_FORBIDDEN, when a key is named like a device.

    Spec: client-server-api#post_matrixclientv3keysdevice_signingupload
    """
    body = request.json_object()
    keys = {
        usage: checks.cross_signing_key(body[f"{usage}_key"], request.user_id, usage)
        for usage in USAGES
        if body.get(f"{usage}_key") is not None
    }
    for _ in range(_TRIES):
        if await _upload(ctx, request, keys, body.get("auth")):
            return {}
    raise errors.unavailable()


async def _upload(
    ctx: Context,
    request: ClientRequest,
    keys: Mapping[str, JsonObject],
    auth: JsonValue,
) -> bool:
    """Store the keys; False when others were stored meanwhile."""
    user_id = request.user_id
    publics = {
        usage: checks.public_key_of(key, f"{usage}_key") for usage, key in keys.items()
    }
    async with ctx.db.snapshot() as tx:
        stored = await store.signing_keys(tx, user_id)
        if await store.has_device(tx, user_id, list(publics.values())):
            raise errors.forbidden("A key must not be named like one of your devices.")
    master = publics.get("master") or _public(stored.get("master"))
    if not keys or master is None:
        raise errors.missing_param("There is no master signing key.")
    for usage, key in keys.items():
        if usage != "master":
            _check_signature(key, user_id, f"ed25519:{master}", usage)
    is_same = all(_public(stored.get(usage)) == each for usage, each in publics.items())
    if is_same and "master" in keys:
        return True
    session = None
    # Services need not authenticate. Spec: application-service-api#cross-signing
    if "master" in stored and request.who.service_id is None:
        session = await _authenticate(ctx, request, auth)
    new = store.NewKeys(
        user_id,
        _public(stored.get("master")),
        {
            usage: (publics[usage], canonical_json.encode_strict(key).decode())
            for usage, key in keys.items()
        },
    )
    change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=new.reach)
    await ctx.live.commit(store.put, new, change)
    if new.is_outdated:
        return False
    if session is not None:
        await uia.finish(ctx.db, session)
        await oauth_stage.end_reset(ctx.db, user_id)
    return True


async def _authenticate(
    ctx: Context, request: ClientRequest, auth: JsonValue
) -> UiaSession:
    """The user says yes: with the password, or on a page where OAuth let them in."""
    user_id = request.user_id
    if await oauth_stage.is_needed(ctx.db, user_id, request.device_id):
        return await oauth_stage.authenticate(ctx, request, auth)
    operation = await confirmation(ctx, request, "device_signing", user_id)
    return await operation.authenticate(ctx.db, auth, user_id)


def _public(key: SigningKey | None) -> str | None:
    return None if key is None else key.public_key


def _check_signature(
    key: JsonObject, signer: UserId, signer_key: str, what: str
) -> None:
    """Raises: M_INVALID_SIGNATURE."""
    try:
        public = decode_base64(signer_key.removeprefix("ed25519:"))
        check_json(key, signer, signer_key, public)
    except BadSignature as error:
        raise errors.invalid_signature(f"{what}: {error}.") from None


# ── Signatures ───────────────────────────────────────────────────────────────────────


@route(
    "POST",
    KEYS + "/signatures/upload",
    auth=by_access_token,
    limit=writes,
    since="1.1",
)
async def upload_cross_signing_signatures(
    ctx: Context, request: ClientRequest
) -> Answer:
    """Add signatures of the user's to keys; those that are wrong stand in `failures`.

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_TOO_LARGE.

    Spec: client-server-api#post_matrixclientv3keyssignaturesupload
    """
    objects = _objects(request.json_object())
    user_id = request.user_id
    async with ctx.db.snapshot() as tx:
        own = await store.signing_keys(tx, user_id)
        master = own.get("master")
        signers = [
            name.removeprefix("ed25519:")
            for target, _, value in objects
            if target == user_id
            for name in _by_user(value, user_id)
        ]
        named = [key_id for target, key_id, _ in objects if target == user_id]
        devices = await store.device_keys(tx, user_id, [*named, *signers])
        masters = await store.master_keys(tx, [target for target, _, _ in objects])
    signatures: list[Signature] = []
    failures: dict[str, JsonObject] = {}
    for target, key_id, value in objects:
        try:
            if target == user_id and key_id in devices:
                known, made_with = devices[key_id], _keys_for(own.get("self_signing"))
            elif target == user_id and key_id == _public(master):
                known, made_with = masters[target], _device_publics(devices)
            elif target != user_id and key_id == _public_of(masters.get(target)):
                known, made_with = masters[target], _keys_for(own.get("user_signing"))
            else:
                raise errors.not_found("There is no such key.")
            signatures += _verified(target, key_id, value, known, user_id, made_with)
        except errors.MatrixError as error:
            failures.setdefault(target, {})[key_id] = error.body()
    if signatures:
        new = store.NewSignatures(
            user_id, signatures, [DeviceId(device_id) for device_id in devices]
        )
        change = Change(Kind.DEVICE_LIST, user_id=user_id, reach=new.reach)
        await ctx.live.commit(store.sign, new, change)
    return {"failures": dict[str, JsonValue](failures)}


def _objects(body: JsonObject) -> list[tuple[UserId, str, JsonObject]]:
    """The signed objects, each with whose it is and the ID of the key."""
    objects = []
    for name, by_key in body.items():
        target = user_of(name)
        if not isinstance(by_key, dict):
            raise errors.bad_json("Each user has a JSON object.")
        for key_id, value in by_key.items():
            if not isinstance(value, dict):
                raise errors.bad_json("Each key is a JSON object.")
            checks.check_name(key_id, "key ID")
            checks.check_signatures(value.get("signatures", {}), "signatures")
            for signer_key in _by_user(value, target):
                checks.check_name(signer_key, "signatures")
            objects.append((target, key_id, value))
    if len(objects) > MAX_SIGNED:
        raise errors.too_large(f"At most {MAX_SIGNED} keys at once.")
    return objects


def _by_user(value: JsonObject, user_id: UserId) -> dict[str, JsonValue]:
    """The signatures of one user in an object."""
    signatures = value.get("signatures")
    found = signatures.get(user_id) if isinstance(signatures, dict) else None
    return found if isinstance(found, dict) else {}


def _keys_for(key: SigningKey | None) -> dict[str, str]:
    return {} if key is None else {f"ed25519:{key.public_key}": key.public_key}


def _public_of(master: JsonObject | None) -> str | None:
    return None if master is None else checks.public_key_of(master, "master_key")


def _device_publics(devices: Mapping[str, JsonObject]) -> dict[str, str]:
    """The Ed25519 keys of devices, by their names in signatures."""
    found: dict[str, str] = {}
    for device_id, keys in devices.items():
        name = f"ed25519:{device_id}"
        by_name = keys.get("keys")
        public = by_name.get(name) if isinstance(by_name, dict) else None
        if isinstance(public, str):
            found[name] = public
    return found


def _verified(
    target: UserId,
    key_id: str,
    value: JsonObject,
    known: JsonObject,
    signer: UserId,
    made_with: Mapping[str, str],
) -> list[Signature]:
    """The new signatures of an object. Raises: M_INVALID_SIGNATURE, M_INVALID_PARAM."""
    if _bare(value) != _bare(known):
        raise errors.invalid_param("This is not the key that was uploaded.")
    given = _by_user(known, signer)
    new = []
    for signer_key, signature in _by_user(value, signer).items():
        if given.get(signer_key) == signature:
            continue
        if signer_key not in made_with:
            raise errors.invalid_signature(
                "The signature was not made with a key that may sign this one."
            )
        try:
            public = decode_base64(made_with[signer_key])
            check_json(value, signer, signer_key, public)
        except ProtocolError as error:
            raise errors.invalid_signature(f"{error}.") from None
        new.append(Signature(target, key_id, signer_key, str(signature)))
    return new


def _bare(key: JsonObject) -> JsonObject:
    return {k: v for k, v in key.items() if k not in ("signatures", "unsigned")}
