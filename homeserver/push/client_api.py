"""The endpoints about push rules. Spec: client-server-api#push-rules-api."""

from typing import Final

from homeserver import errors
from homeserver.context import Context
from homeserver.http.auth import by_access_token
from homeserver.http.limits import writes
from homeserver.http.replies import Answer
from homeserver.http.requests import ClientRequest
from homeserver.http.routes import route
from homeserver.live.changes import Change, Kind
from homeserver.push import rules, store
from homeserver.push.rules import Changes, Place, Rule, RuleKind, Ruleset
from homeserver.push.store import RuleEdit, extras_of

RULES: Final = "/_matrix/client/v3/pushrules/"
RULE: Final = RULES + "global/{kind}/{ruleId}"


async def _ruleset(ctx: Context, request: ClientRequest) -> Ruleset:
    async with ctx.db.read() as tx:
        changes = await store.read_changes(tx, request.user_id)
    return rules.ruleset_of(request.user_id, changes, extras_of(ctx.config.push))


async def _rule(ctx: Context, request: ClientRequest) -> Rule:
    """The rule in the path. Raises: M_NOT_FOUND, M_INVALID_PARAM."""
    kind = request.path(RuleKind, "kind")
    ruleset = await _ruleset(ctx, request)
    return ruleset.find(kind, request.path(str, "ruleId"))


async def _edit(ctx: Context, request: ClientRequest, change: rules.Change) -> Answer:
    async with ctx.db.read() as tx:  # what cannot be done shall not reach the committer
        rules.encode_changes(change(await store.read_changes(tx, request.user_id)))
    edit = RuleEdit(request.user_id, change, extras_of(ctx.config.push))
    data = Change(Kind.ACCOUNT_DATA, user_id=request.user_id)
    await ctx.live.commit(store.change_rules, edit, data)
    return {}


@route("GET", RULES, auth=by_access_token)
async def get_push_rules(ctx: Context, request: ClientRequest) -> Answer:
    """All rulesets of the user; there is one.

    Spec: client-server-api#get_matrixclientv3pushrules
    """
    return {"global": (await _ruleset(ctx, request)).as_json()}


@route("GET", RULES + "global/", auth=by_access_token)
async def get_push_rules_global(ctx: Context, request: ClientRequest) -> Answer:
    """All rules of the user.

    Spec: client-server-api#get_matrixclientv3pushrulesglobal
    """
    return (await _ruleset(ctx, request)).as_json()


@route("GET", RULE, auth=by_access_token)
async def get_push_rule(ctx: Context, request: ClientRequest) -> Answer:
    """One rule. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleid
    """
    return (await _rule(ctx, request)).as_json()


@route("PUT", RULE, auth=by_access_token, limit=writes)
async def set_push_rule(ctx: Context, request: ClientRequest) -> Answer:
    """Add or change a rule of the user's own.

    Raises: M_UNKNOWN when the rule in `before` or `after` is not there;
    M_INVALID_PARAM, M_MISSING_PARAM, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleid
    """
    kind = request.path(RuleKind, "kind")
    rule = rules.parse_rule(kind, request.path(str, "ruleId"), request.json_object())
    place = Place(request.query_str("before"), request.query_str("after"))
    for name, neighbour in (("before", place.before), ("after", place.after)):
        if neighbour is not None and neighbour.startswith("."):
            raise errors.invalid_param(f"{name}: a rule of your own is needed.")

    def change(changes: Changes) -> Changes:
        return rules.with_rule(changes, kind, rule, place)

    return await _edit(ctx, request, change)


@route("DELETE", RULE, auth=by_access_token, limit=writes)
async def delete_push_rule(ctx: Context, request: ClientRequest) -> Answer:
    """Take a rule of the user's own away. Raises: M_NOT_FOUND.

    Spec: client-server-api#delete_matrixclientv3pushrulesglobalkindruleid
    """
    kind, rule_id = request.path(RuleKind, "kind"), request.path(str, "ruleId")

    def change(changes: Changes) -> Changes:
        return rules.without_rule(changes, kind, rule_id)

    return await _edit(ctx, request, change)


@route("GET", RULE + "/enabled", auth=by_access_token)
async def is_push_rule_enabled(ctx: Context, request: ClientRequest) -> Answer:
    """Whether a rule is enabled. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidenabled
    """
    return {"enabled": (await _rule(ctx, request)).enabled}


@route("PUT", RULE + "/enabled", auth=by_access_token, limit=writes)
async def set_push_rule_enabled(ctx: Context, request: ClientRequest) -> Answer:
    """Enable or disable a rule, predefined or not. Raises: M_NOT_FOUND, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleidenabled
    """
    kind, rule_id = request.path(RuleKind, "kind"), request.path(str, "ruleId")
    body = request.json_object()
    if "enabled" not in body:
        raise errors.missing_param("enabled is missing.")
    enabled = body["enabled"]
    if not isinstance(enabled, bool):
        raise errors.bad_json("enabled: true or false is needed.")
    extras = extras_of(ctx.config.push)

    def change(changes: Changes) -> Changes:
        return rules.with_set(changes, kind, rule_id, enabled=enabled, extras=extras)

    return await _edit(ctx, request, change)


@route("GET", RULE + "/actions", auth=by_access_token)
async def get_push_rule_actions(ctx: Context, request: ClientRequest) -> Answer:
    """The actions of a rule. Raises: M_NOT_FOUND.

    Spec: client-server-api#get_matrixclientv3pushrulesglobalkindruleidactions
    """
    return {"actions": list((await _rule(ctx, request)).actions)}


@route("PUT", RULE + "/actions", auth=by_access_token, limit=writes)
async def set_push_rule_actions(ctx: Context, request: ClientRequest) -> Answer:
    """Change the actions of a rule, predefined or not. Raises: M_NOT_FOUND, M_BAD_JSON.

    Spec: client-server-api#put_matrixclientv3pushrulesglobalkindruleidactions
    """
    kind, rule_id = request.path(RuleKind, "kind"), request.path(str, "ruleId")
    body = request.json_object()
    if "actions" not in body:
        raise errors.missing_param("actions is missing.")
    actions = rules.checked_actions(body["actions"])
    extras = extras_of(ctx.config.push)

    def change(changes: Changes) -> Changes:
        return rules.with_set(changes, kind, rule_id, actions=actions, extras=extras)

    return await _edit(ctx, request, change)
