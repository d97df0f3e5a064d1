"""What is asked of both servers, in this order."""

from tests.interop.comparison import Step

V3 = "/_matrix/client/v3"
V1 = "/_matrix/client/v1"
ROOM = f"{V3}/rooms/{{room}}"
TEXT = {"msgtype": "m.text", "body": "hello there"}
THREAD = {**TEXT, "m.relates_to": {"rel_type": "m.thread", "event_id": "{message}"}}
EDIT = {
    **TEXT,
    "m.new_content": TEXT,
    "m.relates_to": {"rel_type": "m.replace", "event_id": "{message}"},
}
REACTION = {
    "m.relates_to": {"rel_type": "m.annotation", "event_id": "{message}", "key": "x"}
}
NOWHERE = "!nowhere:{server}"
NOBODY_ID = "@nobody:{server}"
SYNC = {"timeout": "0", "filter": '{"room":{"timeline":{"limit":50}}}'}
SEARCH = {"search_categories": {"room_events": {"search_term": "hello"}}}
DEVICE_KEYS = {"device_keys": {"{alice_id}": []}}
# What else a server tells of itself.
ADVERTISED = ("versions", "unstable_features", "server", "capabilities")

# The topic, which was redacted: Synapse forgets it in its own time.
FORGOTTEN = ("chunk[].topic", "rooms[].topic", "topic")


def bad(name: str, method: str, path: str, body: object = None, **more: str) -> Step:
    """A request that both refuse, or take, in the same way."""
    return Step(name, method, path, body, **more)  # type: ignore[arg-type]


STEPS = (
    # ── The server and the account ──
    Step("versions", "GET", "/_matrix/client/versions", free=ADVERTISED),
    Step("login flows", "GET", f"{V3}/login", who="nobody", free=("flows",)),
    Step("capabilities", "GET", f"{V3}/capabilities", free=ADVERTISED),
    Step("whoami", "GET", f"{V3}/account/whoami"),
    bad("whoami without token", "GET", f"{V3}/account/whoami", who="nobody"),
    bad("whoami with a bad token", "GET", f"{V3}/account/whoami", who="forger"),
    bad("an unknown path", "GET", f"{V3}/unheard_of"),
    bad("a wrong method", "DELETE", f"{V3}/sync"),
    bad(
        "a wrong password",
        "POST",
        f"{V3}/login",
        {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": "{alice_id}"},
            "password": "wrong",
        },
        who="nobody",
    ),
    bad("an unknown login", "POST", f"{V3}/login", {"type": "m.x"}, who="nobody"),
    bad("a login that is no object", "POST", f"{V3}/login", [], who="nobody"),
    Step("devices", "GET", f"{V3}/devices"),
    Step("a device", "GET", f"{V3}/devices/{{alice_device}}"),
    bad("an unknown device", "GET", f"{V3}/devices/NOTHING"),
    Step("rename it", "PUT", f"{V3}/devices/{{alice_device}}", {"display_name": "x"}),
    Step(
        "set a name",
        "PUT",
        f"{V3}/profile/{{alice_id}}/displayname",
        {"displayname": "Alice"},
    ),
    Step("a profile", "GET", f"{V3}/profile/{{alice_id}}"),
    Step("a name", "GET", f"{V3}/profile/{{alice_id}}/displayname"),
    bad("an avatar not set", "GET", f"{V3}/profile/{{bob_id}}/avatar_url"),
    bad("nobody's profile", "GET", f"{V3}/profile/{NOBODY_ID}"),
    bad(
        "another's name",
        "PUT",
        f"{V3}/profile/{{bob_id}}/displayname",
        {"displayname": "x"},
    ),
    Step("account data", "PUT", f"{V3}/user/{{alice_id}}/account_data/x.y", {"a": 1}),
    Step("read it", "GET", f"{V3}/user/{{alice_id}}/account_data/x.y"),
    bad("no account data", "GET", f"{V3}/user/{{alice_id}}/account_data/x.z"),
    bad("another's account data", "GET", f"{V3}/user/{{bob_id}}/account_data/x.y"),
    bad(
        "push rules as account data",
        "PUT",
        f"{V3}/user/{{alice_id}}/account_data/m.push_rules",
        {},
    ),
    Step(
        "a filter",
        "POST",
        f"{V3}/user/{{alice_id}}/filter",
        {"room": {"timeline": {"limit": 5}}},
        keeps={"filter": "filter_id"},
    ),
    Step("read the filter", "GET", f"{V3}/user/{{alice_id}}/filter/{{filter}}"),
    bad("no such filter", "GET", f"{V3}/user/{{alice_id}}/filter/99999"),
    bad("a bad filter", "POST", f"{V3}/user/{{alice_id}}/filter", {"room": 1}),
    Step("push rules", "GET", f"{V3}/pushrules/", free=("global",)),
    bad("no such push rule", "GET", f"{V3}/pushrules/global/override/x"),
    Step("pushers", "GET", f"{V3}/pushers"),
    # ── Rooms ──
    Step(
        "make a room",
        "POST",
        f"{V3}/createRoom",
        {"preset": "public_chat", "name": "Room", "topic": "A topic"},
        keeps={"room": "room_id"},
    ),
    bad("a bad preset", "POST", f"{V3}/createRoom", {"preset": "x"}),
    bad("a bad version", "POST", f"{V3}/createRoom", {"room_version": "999"}),
    bad("a bad invite", "POST", f"{V3}/createRoom", {"invite": ["nonsense"]}),
    Step("join", "POST", f"{V3}/join/{{room}}", {}, who="bob"),
    bad("join nowhere", "POST", f"{V3}/join/{NOWHERE}", {}, who="bob"),
    bad("join by no alias", "POST", f"{V3}/join/%23nothing:{{server}}", {}),
    bad("join nonsense", "POST", f"{V3}/join/nonsense", {}),
    Step("joined rooms", "GET", f"{V3}/joined_rooms"),
    Step("members", "GET", f"{ROOM}/members"),
    Step("joined members", "GET", f"{ROOM}/joined_members"),
    bad("members seen from outside", "GET", f"{ROOM}/members", who="carol"),
    Step("state", "GET", f"{ROOM}/state", free=("value[].content",)),
    Step("one state", "GET", f"{ROOM}/state/m.room.name/"),
    bad("no such state", "GET", f"{ROOM}/state/m.room.avatar/"),
    bad("state seen from outside", "GET", f"{ROOM}/state", who="carol"),
    Step(
        "set state",
        "PUT",
        f"{ROOM}/state/m.room.topic/",
        {"topic": "new"},
        keeps={"topic": "event_id"},
    ),
    bad("set state without power", "PUT", f"{ROOM}/state/m.room.name/", {}, who="bob"),
    bad("set another's key", "PUT", f"{ROOM}/state/x.y/{{alice_id}}", {}, who="bob"),
    Step(
        "send",
        "PUT",
        f"{ROOM}/send/m.room.message/t1",
        TEXT,
        keeps={"message": "event_id"},
    ),
    Step("send it again", "PUT", f"{ROOM}/send/m.room.message/t1", TEXT),
    bad("send from outside", "PUT", f"{ROOM}/send/m.x/t1", {}, who="carol"),
    bad("send no object", "PUT", f"{ROOM}/send/m.x/t2", []),
    bad("send a float", "PUT", f"{ROOM}/send/m.x/t3", {"n": 1.5}),
    bad("send too much", "PUT", f"{ROOM}/send/m.x/t4", {"x": "x" * 70_000}),
    Step("read an event", "GET", f"{ROOM}/event/{{message}}"),
    bad("read no event", "GET", f"{ROOM}/event/$nothing"),
    bad("read from outside", "GET", f"{ROOM}/event/{{message}}", who="carol"),
    Step("reply in a thread", "PUT", f"{ROOM}/send/m.room.message/t5", THREAD),
    Step("edit", "PUT", f"{ROOM}/send/m.room.message/t6", EDIT),
    Step("react", "PUT", f"{ROOM}/send/m.reaction/t7", REACTION, who="bob"),
    bad("react twice", "PUT", f"{ROOM}/send/m.reaction/t8", REACTION, who="bob"),
    Step("relations", "GET", f"{V1}/rooms/{{room}}/relations/{{message}}"),
    Step("thread", "GET", f"{V1}/rooms/{{room}}/relations/{{message}}/m.thread"),
    Step("threads", "GET", f"{V1}/rooms/{{room}}/threads"),
    Step("event with relations", "GET", f"{ROOM}/event/{{message}}"),
    Step("messages", "GET", f"{ROOM}/messages", query={"dir": "b", "limit": "3"}),
    bad("messages without dir", "GET", f"{ROOM}/messages"),
    bad("messages anywhere", "GET", f"{ROOM}/messages", query={"dir": "x"}),
    bad("messages outside", "GET", f"{ROOM}/messages", who="carol"),
    Step("context", "GET", f"{ROOM}/context/{{message}}", query={"limit": "4"}),
    bad("no context", "GET", f"{ROOM}/context/$nothing"),
    Step(
        "jump to a date",
        "GET",
        f"{V1}/rooms/{{room}}/timestamp_to_event",
        query={"ts": "0", "dir": "f"},
    ),
    Step("redact", "PUT", f"{ROOM}/redact/{{topic}}/r1", {"reason": "x"}),
    bad("redact nothing", "PUT", f"{ROOM}/redact/$nothing/r2", {}),
    Step("typing", "PUT", f"{ROOM}/typing/{{alice_id}}", {"typing": False}),
    bad("another types", "PUT", f"{ROOM}/typing/{{bob_id}}", {"typing": False}),
    Step("read up to", "POST", f"{ROOM}/receipt/m.read/{{message}}", {}, who="bob"),
    bad("an unknown receipt", "POST", f"{ROOM}/receipt/m.x/{{message}}", {}),
    Step("mark read", "POST", f"{ROOM}/read_markers", {"m.fully_read": "{message}"}),
    Step("tag", "PUT", f"{V3}/user/{{alice_id}}/rooms/{{room}}/tags/u.x", {}),
    Step("tags", "GET", f"{V3}/user/{{alice_id}}/rooms/{{room}}/tags"),
    Step("search", "POST", f"{V3}/search", SEARCH),
    bad("search nothing", "POST", f"{V3}/search", {}),
    bad("search for no text", "POST", f"{V3}/search", {"search_categories": {"x": 1}}),
    # ── Memberships ──
    Step("invite", "POST", f"{ROOM}/invite", {"user_id": "{carol_id}"}),
    bad("invite a member", "POST", f"{ROOM}/invite", {"user_id": "{bob_id}"}),
    bad("invite nobody", "POST", f"{ROOM}/invite", {}),
    bad("invite nonsense", "POST", f"{ROOM}/invite", {"user_id": "x"}),
    bad(
        "kick without power",
        "POST",
        f"{ROOM}/kick",
        {"user_id": "{alice_id}"},
        who="bob",
    ),
    Step("carol joins", "POST", f"{ROOM}/join", {}, who="carol"),
    Step("kick", "POST", f"{ROOM}/kick", {"user_id": "{carol_id}", "reason": "x"}),
    bad("kick again", "POST", f"{ROOM}/kick", {"user_id": "{carol_id}"}),
    Step("ban", "POST", f"{ROOM}/ban", {"user_id": "{carol_id}"}),
    bad("join when banned", "POST", f"{ROOM}/join", {}, who="carol"),
    bad("invite the banned", "POST", f"{ROOM}/invite", {"user_id": "{carol_id}"}),
    Step("unban", "POST", f"{ROOM}/unban", {"user_id": "{carol_id}"}),
    bad("unban again", "POST", f"{ROOM}/unban", {"user_id": "{carol_id}"}),
    bad("knock on a public room", "POST", f"{V3}/knock/{{room}}", {}, who="carol"),
    bad("forget while in", "POST", f"{ROOM}/forget", {}),
    # ── Directory ──
    Step(
        "an alias",
        "PUT",
        f"{V3}/directory/room/%23room:{{server}}",
        {"room_id": "{room}"},
    ),
    bad(
        "the alias again",
        "PUT",
        f"{V3}/directory/room/%23room:{{server}}",
        {"room_id": "{room}"},
    ),
    Step("resolve", "GET", f"{V3}/directory/room/%23room:{{server}}"),
    bad("resolve nothing", "GET", f"{V3}/directory/room/%23nothing:{{server}}"),
    bad("resolve nonsense", "GET", f"{V3}/directory/room/nonsense"),
    bad(
        "delete another's",
        "DELETE",
        f"{V3}/directory/room/%23room:{{server}}",
        who="bob",
    ),
    Step("aliases", "GET", f"{ROOM}/aliases"),
    Step(
        "publish", "PUT", f"{V3}/directory/list/room/{{room}}", {"visibility": "public"}
    ),
    Step("visibility", "GET", f"{V3}/directory/list/room/{{room}}"),
    Step("public rooms", "GET", f"{V3}/publicRooms", free=FORGOTTEN),
    Step(
        "search them",
        "POST",
        f"{V3}/publicRooms",
        {"filter": {"generic_search_term": "Room"}, "limit": 1},
        free=FORGOTTEN,
    ),
    Step(
        "find people",
        "POST",
        f"{V3}/user_directory/search",
        {"search_term": "Al"},
        free=("results",),
    ),
    Step("a summary", "GET", f"{V1}/room_summary/{{room}}", free=FORGOTTEN),
    Step("a hierarchy", "GET", f"{V1}/rooms/{{room}}/hierarchy", free=FORGOTTEN),
    # ── Keys ──
    Step("upload keys", "POST", f"{V3}/keys/upload", {}),
    Step("query keys", "POST", f"{V3}/keys/query", DEVICE_KEYS),
    bad("query no keys", "POST", f"{V3}/keys/query", {}),
    Step("claim keys", "POST", f"{V3}/keys/claim", {"one_time_keys": {}}),
    bad("no key backup", "GET", f"{V3}/room_keys/version"),
    Step("to devices", "PUT", f"{V3}/sendToDevice/m.x/d1", {"messages": {}}),
    # ── Sync, upgrade, leave ──
    Step(
        "sync",
        "GET",
        f"{V3}/sync",
        query=SYNC,
        keeps={"since": "next_batch"},
        free=("account_data", "presence"),
    ),
    Step("sync again", "GET", f"{V3}/sync", query={"since": "{since}", "timeout": "0"}),
    bad("sync with a bad token", "GET", f"{V3}/sync", query={"since": "nonsense"}),  # type: ignore[arg-type]
    bad("sync without token", "GET", f"{V3}/sync", who="nobody"),
    bad("sync with a bad filter", "GET", f"{V3}/sync", query={"filter": "{"}),  # type: ignore[arg-type]
    bad("upgrade to nothing", "POST", f"{ROOM}/upgrade", {"new_version": "999"}),
    bad(
        "upgrade without power",
        "POST",
        f"{ROOM}/upgrade",
        {"new_version": "11"},
        who="bob",
    ),
    Step("upgrade", "POST", f"{ROOM}/upgrade", {"new_version": "11"}),
    Step("leave", "POST", f"{ROOM}/leave", {}, who="bob"),
    bad("leave again", "POST", f"{ROOM}/leave", {}, who="bob"),
    Step("forget", "POST", f"{ROOM}/forget", {}, who="bob"),
    bad("leave nowhere", "POST", f"{V3}/rooms/{NOWHERE}/leave", {}),
    Step("log out", "POST", f"{V3}/logout", {}, who="bob"),
    bad("whoami after it", "GET", f"{V3}/account/whoami", who="bob"),
)
