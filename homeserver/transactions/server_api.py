"""The endpoint that other servers push to."""

from typing import Final

from federation import bodies, canonical_json
from federation.bodies import TransactionResult
from federation.errors import Malformed
from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_server
from homeserver.http.limits import federation
from homeserver.http.replies import Answer, Reply
from homeserver.http.requests import FederationRequest
from homeserver.http.routes import route
from homeserver.rooms.receive import receive_pdus
from homeserver.transactions import store
from homeserver.transactions.edus import receive_edus

# Fifty events of 64 KiB, a hundred EDUs, and how they may be written.
MAX_BODY: Final = 16 * 1024 * 1024
_MAX_TXN_ID: Final = 255


@route(
    "PUT",
    "/_matrix/federation/v1/send/{txnId}",
    auth=by_server,
    limit=federation,
    max_body=MAX_BODY,
)
async def send_transaction(ctx: Context, request: FederationRequest) -> Answer:
    """Take a transaction; what became of each PDU stands in the answer.

    Raises: M_BAD_JSON, M_INVALID_PARAM, M_FORBIDDEN when it is another server's.

    Spec: server-server-api#put_matrixfederationv1sendtxnid
    """
    txn_id = request.path(str, "txnId")
    if len(txn_id) > _MAX_TXN_ID:
        raise errors.invalid_param(
            f"A transaction ID has at most {_MAX_TXN_ID} characters."
        )
    try:
        transaction = bodies.parse_transaction(request.json_object())
    except Malformed as error:
        raise errors.of_caller(error) from None
    origin = request.origin
    if transaction.origin != origin:
        raise errors.forbidden(f"The transaction is not one of {origin}.")
    async with ctx.turns.take(("transaction", origin)):
        async with ctx.db.read() as tx:
            response = await store.find_response(tx, origin, txn_id)
        if response is None:
            results = await receive_pdus(ctx, origin, transaction.pdus)
            await receive_edus(ctx, origin, transaction.edus)
            answer = TransactionResult(results).json
            response = canonical_json.encode(answer).decode()
            async with ctx.db.transaction() as tx:
                await store.insert_response(tx, origin, txn_id, response)
    return Reply(200, response.encode())
