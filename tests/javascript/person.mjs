// One person at one device: matrix-js-sdk with its Rust crypto, told what to do by lines
// of JSON on standard input ({id, do, ...}), answering on standard output ({id, ok} or
// {id, error}). Everything is kept in memory, so a device lives as long as the process.

import { createInterface } from "node:readline";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import {
    CryptoEvent,
    VerificationPhase,
    VerificationRequestEvent,
    VerifierEvent,
} from "matrix-js-sdk/lib/crypto-api/index.js";

const answers = process.stdout;
console.log = console.info = console.debug = () => {};
console.warn = console.error = (...said) => process.stderr.write(said.join(" ") + "\n");
logger.setLevel?.("error");

let client;
let password;
let secretKey; // the secret storage's, as long as the process lives
const requests = []; // verification requests that others sent us
const unclaimed = {}; // servers that gave no one-time keys when asked, and when

const until = async (what, found, ms = 30_000) => {
    const end = Date.now() + ms;
    for (;;) {
        const value = await found();
        if (value) return value;
        if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 25));
    }
};

// The same for what has no deadline of its own.
const within = (what, promise, ms = 30_000) =>
    Promise.race([
        promise,
        new Promise((_resolve, reject) =>
            setTimeout(() => reject(new Error(`waited in vain for ${what}`)), ms),
        ),
    ]);

const reached = (request, what, holds) =>
    until(what, () => {
        if (request.phase === VerificationPhase.Cancelled)
            throw new Error(`cancelled: ${request.cancellationCode}`);
        return holds();
    });

// What the library hides: which servers could not be asked for one-time keys.
const fetchAndNote = async (url, options) => {
    const reply = await fetch(url, options);
    if (String(url).includes("/keys/claim") && reply.ok)
        for (const server of Object.keys((await reply.clone().json()).failures ?? {}))
            unclaimed[server] = Date.now();
    return reply;
};

// Repeat what fails while a server is away.
const patiently = async (work, ms = 60_000) => {
    const end = Date.now() + ms;
    for (;;) {
        try {
            return await work();
        } catch (error) {
            const isRefused = error.httpStatus >= 400 && error.httpStatus < 500;
            if (isRefused || Date.now() > end) throw error;
            await new Promise((resolve) => setTimeout(resolve, 300));
        }
    }
};

const devicesOf = async (users) => {
    const found = await client.getCrypto().getUserDeviceInfo(users);
    return Object.fromEntries(
        users.map((user) => [user, [...(found.get(user)?.keys() ?? [])].sort()]),
    );
};

// Why an event cannot be read here; null when it can.
const unreadable = async (roomId, eventId) => {
    let event = client.getRoom(roomId)?.findEventById(eventId);
    if (!event) {
        // Left out by a sync that said so, or not here yet.
        try {
            const raw = await client.fetchRoomEvent(roomId, eventId);
            event = client.getEventMapper()(raw);
        } catch (error) {
            if (error.httpStatus !== 404) throw error;
            return "the server does not have it";
        }
        await client.decryptEventIfNeeded(event);
    }
    if (event.isBeingDecrypted()) await event.getDecryptionPromise();
    if (!event.isEncrypted()) return "it is not encrypted";
    if (event.isDecryptionFailure()) return String(event.decryptionFailureReason);
    return event.getClearContent()?.body ? null : "it is not decrypted";
};

const withPassword = async (make) => {
    const auth = {
        type: "m.login.password",
        identifier: { type: "m.id.user", user: client.getUserId() },
        password,
    };
    try {
        await make(null);
    } catch (error) {
        if (error.httpStatus !== 401) throw error;
        await make({ ...auth, session: error.data.session });
    }
};

const shown = (event) => ({
    id: event.getId(),
    sender: event.getSender(),
    body: event.isDecryptionFailure() ? null : event.getContent().body,
    reason: event.isDecryptionFailure() ? String(event.decryptionFailureReason) : null,
    encrypted: event.isEncrypted(),
});

const messages = (roomId) =>
    (client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [])
        .filter((event) => event.isEncrypted() || event.getType() === "m.room.message")
        .map(shown);

const encrypts = async (roomId) =>
    client.getRoom(roomId)?.hasEncryptionStateEvent() &&
    (await client.getCrypto().isEncryptionEnabledInRoom(roomId));

// Both sides compare the emoji; here both are asked to say them, and agree.
const compare = async (request) => {
    const verifier = await reached(request, "a verifier", () => request.verifier);
    const emoji = new Promise((resolve, reject) => {
        verifier.on(VerifierEvent.ShowSas, resolve);
        verifier.on(VerifierEvent.Cancel, reject);
    });
    const verified = verifier.verify();
    const sas = verifier.getShowSasCallbacks() ?? (await within("emoji", emoji));
    await sas.confirm();
    await within("the other's word", verified);
    return sas.sas.emoji.map(([symbol]) => symbol).join("");
};

const commands = {
    async log_in({ base_url, user, secret, device, limit }) {
        password = secret;
        const guest = sdk.createClient({ baseUrl: base_url });
        const session = await patiently(() =>
            guest.loginRequest({
                type: "m.login.password",
                identifier: { type: "m.id.user", user },
                password,
                initial_device_display_name: device,
            }),
        );
        client = sdk.createClient({
            baseUrl: base_url,
            fetchFn: fetchAndNote,
            userId: session.user_id,
            deviceId: session.device_id,
            accessToken: session.access_token,
            verificationMethods: ["m.sas.v1"],
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) =>
                    secretKey ? [Object.keys(keys)[0], secretKey] : null,
                cacheSecretStorageKey: (_id, _info, key) => (secretKey = key),
            },
        });
        client.on(CryptoEvent.VerificationRequestReceived, (r) => requests.push(r));
        await client.initRustCrypto({ useIndexedDB: false });
        const ready = new Promise((resolve) =>
            client.on("sync", (state) => state === "PREPARED" && resolve()),
        );
        await client.startClient({ initialSyncLimit: limit ?? 50 });
        await ready;
        return { user_id: session.user_id, device_id: session.device_id };
    },

    async create_room({ invite, rotate }) {
        const { room_id } = await client.createRoom({
            preset: "private_chat",
            invite,
            initial_state: [
                {
                    type: "m.room.encryption",
                    state_key: "",
                    content: {
                        algorithm: "m.megolm.v1.aes-sha2",
                        ...(rotate && { rotation_period_msgs: rotate }),
                    },
                },
            ],
        });
        await until("encryption", () => encrypts(room_id));
        return room_id;
    },

    async invite({ room, user, with_history }) {
        await client.invite(room, user, { shareEncryptedHistory: with_history });
    },

    async join({ room, via, with_history }) {
        await until("the invite", () => client.getRoom(room)?.getMyMembership());
        await client.joinRoom(room, {
            viaServers: via,
            acceptSharedHistory: with_history,
        });
        await until("encryption", () => encrypts(room));
    },

    async sees_member({ room, user, membership }) {
        await until(
            `${user} to ${membership}`,
            () => client.getRoom(room)?.getMember(user)?.membership === membership,
        );
    },

    async send({ room, body }) {
        const content = { msgtype: "m.text", body };
        return (await client.sendMessage(room, content)).event_id;
    },

    // Send until the server has it. Also says which devices of these users were known
    // before, and from which servers no keys could be had.
    async sends_on({ room, body, users }) {
        const known = await devicesOf(users);
        let event;
        const sent = await patiently(async () => {
            try {
                const content = { msgtype: "m.text", body };
                if (event) return await client.resendEvent(event, client.getRoom(room));
                return await client.sendMessage(room, content);
            } catch (error) {
                event = error.event ?? event;
                throw error;
            }
        });
        return { event: sent.event_id, known, unclaimed };
    },

    devices_of: ({ users }) => devicesOf(users),

    // Those of these events that cannot be read, with the reasons.
    async unread({ room, events }) {
        const bad = {};
        for (const event of events) {
            const why = await patiently(() => unreadable(room, event));
            if (why) bad[event] = why;
        }
        return bad;
    },

    async reads({ room, body, ms }) {
        const found = () => messages(room).find((message) => message.body === body);
        try {
            return await until(body, found, ms);
        } catch (error) {
            throw new Error(`${error.message}; had: ${JSON.stringify(messages(room))}`);
        }
    },

    async cannot_read({ room, event }) {
        const found = () => messages(room).find((m) => m.id === event && m.reason);
        return await until(`${event} not to be readable`, found);
    },

    messages: ({ room }) => messages(room),

    async page_back({ room }) {
        // A server may still be fetching what is there to be shown.
        await until("history", async () => {
            await client.scrollback(client.getRoom(room), 100);
            return messages(room).length;
        });
    },

    async set_up_recovery() {
        const crypto = client.getCrypto();
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: withPassword });
        let made;
        await crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () =>
                (made = await crypto.createRecoveryKeyFromPassphrase()),
            setupNewKeyBackup: true,
            setupNewSecretStorage: true,
        });
        secretKey = made.privateKey;
        await until("cross-signing", () => crypto.isCrossSigningReady());
        return made.encodedPrivateKey;
    },

    async recover({ key }) {
        const crypto = client.getCrypto();
        const { decodeRecoveryKey } = await import(
            "matrix-js-sdk/lib/crypto-api/recovery-key.js"
        );
        secretKey = decodeRecoveryKey(key);
        await crypto.userHasCrossSigningKeys(client.getUserId(), true);
        await crypto.bootstrapCrossSigning({});
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        const { imported, total } = await crypto.restoreKeyBackup();
        return { imported, total };
    },

    async backed_up({ count }) {
        // What the SDK knows of it is as old as the backup: the server is asked.
        await until(`${count} keys in the backup`, async () => {
            const found = await client.http.authedRequest("GET", "/room_keys/version");
            return found.count >= count;
        });
    },

    async verify({ user, device, room }) {
        const crypto = client.getCrypto();
        let request;
        if (room) request = await crypto.requestVerificationDM(user, room);
        else request = await crypto.requestDeviceVerification(user, device);
        await reached(request, "ready", () => request.phase >= VerificationPhase.Ready);
        await request.startVerification("m.sas.v1");
        const emoji = await compare(request);
        await reached(request, "done", () => request.phase === VerificationPhase.Done);
        return emoji;
    },

    async is_verified_by({ user }) {
        const request = await until("a request", () =>
            requests.find((each) => each.otherUserId === user && each.pending),
        );
        await request.accept();
        const emoji = await compare(request);
        await reached(request, "done", () => request.phase === VerificationPhase.Done);
        return emoji;
    },

    async trusts({ user, device }) {
        const crypto = client.getCrypto();
        await until(`trust in ${device ?? user}`, async () => {
            if (!device)
                return (await crypto.getUserVerificationStatus(user)).isCrossSigningVerified();
            const status = await crypto.getDeviceVerificationStatus(user, device);
            return status?.crossSigningVerified;
        });
    },

    async knows_devices({ user, devices }) {
        await until(`devices ${devices} of ${user}`, async () => {
            const known = await client.getCrypto().getUserDeviceInfo([user], true);
            const ids = [...(known.get(user)?.keys() ?? [])].sort();
            return JSON.stringify(ids) === JSON.stringify([...devices].sort());
        });
    },

    async knows_dehydrated_device({ user }) {
        await until(`a dehydrated device of ${user}`, async () => {
            const known = await client.getCrypto().getUserDeviceInfo([user], true);
            const devices = [...(known.get(user)?.values() ?? [])];
            return devices.length === 1 && devices[0].dehydrated;
        });
    },

    async dehydrate() {
        const crypto = client.getCrypto();
        if (!(await crypto.isDehydrationSupported())) throw new Error("not supported");
        await crypto.startDehydration({ createNewKey: true, rehydrate: false });
    },

    async rehydrate() {
        const done = new Promise((resolve, reject) => {
            client.on(CryptoEvent.RehydrationCompleted, resolve);
            client.on(CryptoEvent.RehydrationError, (what) => reject(new Error(what)));
        });
        await client.getCrypto().startDehydration({ rehydrate: true });
        await done;
    },

    async delete_device({ device }) {
        await withPassword((auth) => client.deleteDevice(device, auth ?? undefined));
    },

    async log_out() {
        client.stopClient();
        await patiently(() => client.logout(false)).catch((error) => {
            // The answer to an earlier attempt was lost.
            if (error.errcode !== "M_UNKNOWN_TOKEN") throw error;
        });
    },

    quit() {
        client?.stopClient();
        setTimeout(() => process.exit(0), 10);
    },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
    const { id, do: what, ...given } = JSON.parse(line);
    let answer;
    try {
        answer = { id, ok: (await commands[what](given)) ?? null };
    } catch (error) {
        answer = { id, error: `${error.message}\n${error.stack}` };
    }
    answers.write(JSON.stringify(answer) + "\n");
}).on("close", () => process.exit(0));
