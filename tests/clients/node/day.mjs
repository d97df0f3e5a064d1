// A day in the life of two people with matrix-js-sdk, against one homeserver.
// node day.mjs BASE_URL USER PASSWORD USER PASSWORD: ends with 0 when all went well.

import assert from "node:assert/strict";
import { createClient, Direction, EventTimeline } from "matrix-js-sdk";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { logger } from "matrix-js-sdk/lib/logger.js";

logger.setLevel?.("error");
const [baseUrl, aliceId, alicePassword, bobId, bobPassword] = process.argv.slice(2);
const PATIENCE_MS = 15_000;
const started = [];

function step(name) {
    console.log(`# ${name}`);
}

async function until(what, isSo) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        const found = await isSo();
        if (found) return found;
        if (Date.now() > end) throw new Error(`never so: ${what}`);
        await new Promise((go) => setTimeout(go, 25));
    }
}

async function logIn(userId, password) {
    const plain = createClient({ baseUrl });
    const told = await plain.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user: userId },
        password,
        initial_device_display_name: "matrix-js-sdk",
    });
    return createClient({
        baseUrl,
        userId: told.user_id,
        deviceId: told.device_id,
        accessToken: told.access_token,
    });
}

async function start(client, options = {}) {
    started.push(client);
    await client.startClient({ initialSyncLimit: 20, threadSupport: true, ...options });
    await until("the first sync", () => ["PREPARED", "SYNCING"].includes(client.getSyncState()));
    return client;
}

const text = (body) => ({ msgtype: "m.text", body });
const eventsOf = (client, roomId) => client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
const eventIn = (client, roomId, id) => client.getRoom(roomId)?.findEventById(id);
const bodyIn = (client, roomId, body) =>
    eventsOf(client, roomId).find((event) => event.getContent().body === body);

async function day() {
    step("log in");
    const alice = await start(await logIn(aliceId, alicePassword));
    const bob = await start(await logIn(bobId, bobPassword));
    assert.equal((await alice.whoami()).user_id, aliceId);

    step("make a room, invite, join");
    const { room_id: room } = await alice.createRoom({
        name: "A day",
        topic: "What happens in it",
        preset: "private_chat",
        invite: [bobId],
    });
    const invited = await until("bob is invited", () => bob.getRoom(room));
    assert.equal(invited.getMyMembership(), "invite");
    assert.equal(invited.name, "A day");
    await bob.joinRoom(room);
    await until("bob is in", () => bob.getRoom(room)?.getMyMembership() === "join");
    await until("alice sees bob", () => alice.getRoom(room).getMember(bobId)?.membership === "join");
    await until("bob knows the room's name", () => bob.getRoom(room).name === "A day");
    const state = bob.getRoom(room).getLiveTimeline().getState(EventTimeline.FORWARDS);
    assert.ok(state.getStateEvents("m.room.power_levels", ""));
    assert.equal(state.getStateEvents("m.room.topic", "").getContent().topic, "What happens in it");

    step("say something, type, read");
    const { event_id: root } = await alice.sendMessage(room, text("Good morning"));
    await until("bob reads it", () => bodyIn(bob, room, "Good morning"));
    await until("it counts as unread", () => bob.getRoom(room).getUnreadNotificationCount("total") >= 1);
    await bob.sendTyping(room, true, 10_000);
    await until("alice sees bob type", () => alice.getRoom(room).getMember(bobId).typing);
    await bob.sendReadReceipt(eventIn(bob, room, root));
    await until("alice sees that bob read it", () =>
        alice.getRoom(room).getUsersReadUpTo(eventIn(alice, room, root)).includes(bobId),
    );
    await until("nothing is unread", () => bob.getRoom(room).getUnreadNotificationCount("total") === 0);

    step("a thread");
    const { event_id: inThread } = await bob.sendMessage(room, root, text("In the thread"));
    const thread = await until("alice has the thread", () => alice.getRoom(room).getThread(root));
    await until("the thread has its reply", () => thread.findEventById(inThread) || thread.replyToEvent?.getId() === inThread);
    const replies = await alice.relations(room, root, "m.thread", null);
    assert.deepEqual(replies.events.map((event) => event.getId()), [inThread]);
    const threads = await alice.createThreadListMessagesRequest(room, null, 10, Direction.Backward);
    assert.deepEqual(threads.chunk.map((event) => event.event_id), [root]);

    step("an edit, a reaction, a redaction");
    const { event_id: slip } = await alice.sendMessage(room, text("Godo noon"));
    await alice.sendEvent(room, "m.room.message", {
        ...text("* Good noon"),
        "m.new_content": text("Good noon"),
        "m.relates_to": { rel_type: "m.replace", event_id: slip },
    });
    await until("bob sees the edit", () => eventIn(bob, room, slip)?.getContent().body === "Good noon");
    const { event_id: reaction } = await bob.sendEvent(room, "m.reaction", {
        "m.relates_to": { rel_type: "m.annotation", event_id: slip, key: "👍" },
    });
    const reactions = await until("alice sees the reaction", () =>
        alice.getRoom(room).relations.getChildEventsForEvent(slip, "m.annotation", "m.reaction"),
    );
    assert.equal(reactions.getSortedAnnotationsByKey()[0][0], "👍");
    await bob.redactEvent(room, reaction);
    await until("alice sees it go", () => eventIn(alice, room, reaction)?.isRedacted() || reactions.getRelations().length === 0);
    const { event_id: gone } = await alice.sendMessage(room, text("A secret"));
    await until("bob has it", () => eventIn(bob, room, gone));
    await alice.redactEvent(room, gone, undefined, { reason: "it was one" });
    await until("bob has it no more", () => eventIn(bob, room, gone).isRedacted());

    step("names, account data, push rules");
    await alice.setDisplayName("Alice of the day");
    await until("bob sees the name", () => bob.getRoom(room).getMember(aliceId).name === "Alice of the day");
    await alice.setAccountData("org.example.day", { n: 1 });
    await until("it comes back", () => alice.getAccountData("org.example.day")?.getContent().n === 1);
    await alice.setRoomTag(room, "m.favourite", { order: 0.5 });
    await until("the tag comes back", () => alice.getRoom(room).tags["m.favourite"]);
    assert.ok((await alice.getPushRules()).global.underride.length > 0);

    step("scroll back");
    const late = await start(await logIn(bobId, bobPassword), { initialSyncLimit: 1 });
    const lateRoom = late.getRoom(room);
    for (let i = 0; i < 20 && !lateRoom.findEventById(root); i++) await late.scrollback(lateRoom, 10);
    assert.ok(lateRoom.findEventById(root), "history goes back to the first message");

    step("search");
    const found = await alice.searchRoomEvents({ term: "good morning" });
    assert.equal(found.results[0].context.getEvent().getId(), root);

    step("a space");
    const { room_id: space } = await alice.createRoom({
        name: "The days",
        preset: "public_chat",
        creation_content: { type: "m.space" },
    });
    await alice.sendStateEvent(space, "m.space.child", { via: [aliceId.split(":").slice(1).join(":")] }, room);
    const hierarchy = await alice.getRoomHierarchy(space);
    assert.deepEqual(hierarchy.rooms.map((each) => each.room_id), [space, room]);
    const summary = await bob.getRoomSummary(space);
    assert.equal(summary.name, "The days");
    assert.equal(summary.room_type, "m.space");

    step("an upgrade");
    const { room_id: old } = await alice.createRoom({ name: "Old", preset: "public_chat", room_version: "10" });
    await bob.joinRoom(old);
    const { replacement_room: fresh } = await alice.upgradeRoom(old, "11");
    await until("bob sees the tombstone", () =>
        bob.getRoom(old)?.currentState.getStateEvents("m.room.tombstone", "")?.getContent().replacement_room === fresh,
    );
    await bob.joinRoom(fresh);
    await until("bob is in the new room", () => bob.getRoom(fresh)?.getMyMembership() === "join");
    assert.equal(bob.getRoom(fresh).getVersion(), "11");
    assert.equal(bob.getRoom(fresh).findPredecessor().roomId, old);

    step("delayed events");
    assert.ok(await alice.doesServerSupportUnstableFeature("org.matrix.msc4140"));
    const { delay_id: delayId } = await alice._unstable_sendDelayedEvent(
        room, { delay: 60_000 }, null, "m.room.message", text("Later"),
    );
    const waiting = await alice._unstable_getDelayedEvents();
    assert.deepEqual(waiting.delayed_events.map((each) => each.delay_id), [delayId]);
    await alice._unstable_updateDelayedEvent(delayId, "restart");
    await alice._unstable_updateDelayedEvent(delayId, "send");
    await until("bob reads it", () => bodyIn(bob, room, "Later"));

    step("sliding sync");
    const other = await logIn(bobId, bobPassword);
    const list = {
        ranges: [[0, 20]],
        sort: ["by_recency"],
        timeline_limit: 5,
        required_state: [["m.room.name", ""], ["m.room.create", ""], ["m.room.member", "$LAZY"]],
        filters: {},
    };
    const subscription = { timeline_limit: 20, required_state: [["*", "*"]] };
    const sliding = new SlidingSync(baseUrl, new Map([["all", list]]), subscription, other, 2_000);
    started.push(other);
    await other.startClient({ slidingSync: sliding });
    await until("the room is there", () => other.getRoom(room)?.name === "A day");
    sliding.modifyRoomSubscriptions(new Set([room]));
    await alice.sendMessage(room, text("To the slider"));
    await until("it slides in", () => bodyIn(other, room, "To the slider"));
    sliding.stop();

    step("leave, forget, log out");
    await bob.leave(old);
    await until("bob has left", () => bob.getRoom(old)?.getMyMembership() === "leave");
    await bob.forget(old);
    await bob.logout(true);
    await assert.rejects(bob.whoami(), (error) => error.errcode === "M_UNKNOWN_TOKEN");
}

let status = 0;
try {
    await day();
    console.log("# a good day");
} catch (error) {
    console.error(error);
    status = 1;
}
for (const client of started) client.stopClient();
process.exit(status);
