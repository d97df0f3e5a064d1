// A client that subscribes to Web Push and reads what comes with the library `http_ece`,
// and a push service that holds the server to RFC 8292.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import http from "node:http";
import ece from "http_ece";

const [base, reader, writer] = process.argv.slice(2);
const url = (raw) => Buffer.from(raw).toString("base64url");

async function call(token, method, path, body) {
    const reply = await fetch(`${base}/_matrix/client/v3${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: body && JSON.stringify(body),
    });
    return { status: reply.status, body: await reply.json() };
}

const keys = crypto.createECDH("prime256v1");
keys.generateKeys();
const auth = crypto.randomBytes(16);
const waiting = [];
const come = [];

function got(headers, message) {
    const next = waiting.shift();
    if (next) next({ headers, message });
    else come.push({ headers, message });
}

function next() {
    return come.length ? come.shift() : new Promise((resolve) => waiting.push(resolve));
}

const service = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    assert.ok(body.length <= 4096);
    assert.equal(request.headers["content-encoding"], "aes128gcm");
    const plain = ece.decrypt(body, {
        version: "aes128gcm",
        privateKey: keys,
        authSecret: url(auth),
    });
    response.writeHead(201).end();
    got(request.headers, JSON.parse(plain));
});
await new Promise((resolve) => service.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${service.address().port}`;

function checkVapid(header, vapid) {
    const [, token, key] = /^vapid t=([^,]+), ?k=(.+)$/.exec(header);
    assert.equal(key, vapid);
    const point = Buffer.from(vapid, "base64url");
    const jwk = {
        kty: "EC",
        crv: "P-256",
        x: url(point.subarray(1, 33)),
        y: url(point.subarray(33)),
    };
    const [head, claims, signature] = token.split(".");
    const publicKey = crypto.createPublicKey({ key: jwk, format: "jwk" });
    const signed = Buffer.from(`${head}.${claims}`);
    assert.ok(
        crypto.verify(
            "sha256",
            signed,
            { key: publicKey, dsaEncoding: "ieee-p1363" },
            Buffer.from(signature, "base64url"),
        ),
    );
    const told = JSON.parse(Buffer.from(claims, "base64url"));
    assert.equal(told.aud, origin);
    assert.ok(told.exp > Date.now() / 1000 && told.exp < Date.now() / 1000 + 86400);
    assert.equal(JSON.parse(Buffer.from(head, "base64url")).alg, "ES256");
}

const { body: able } = await call(reader, "GET", "/capabilities");
const { enabled, vapid } = able.capabilities["m.webpush"];
assert.equal(enabled, true);
const set = await call(reader, "POST", "/pushers/set", {
    app_id: "org.example.web",
    kind: "webpush",
    pushkey: url(keys.getPublicKey()),
    app_display_name: "An App",
    device_display_name: "A Browser",
    lang: "en",
    data: { url: `${origin}/push/x`, auth: url(auth) },
});
assert.equal(set.status, 201);
const first = await next();
checkVapid(first.headers.authorization, vapid);
const { ack_token, app_id } = first.message;
const acknowledged = await call(reader, "POST", "/pushers/ack", { ack_token, app_id });
assert.equal(acknowledged.status, 200);

const room = (await call(writer, "POST", "/createRoom", { preset: "public_chat" })).body
    .room_id;
await call(reader, "POST", `/join/${encodeURIComponent(room)}`, {});
const where = `/rooms/${encodeURIComponent(room)}/send/m.room.message`;
for (const [number, text] of ["grüß dich 🙂", "x".repeat(6000)].entries()) {
    const content = { msgtype: "m.text", body: text };
    const sent = await call(writer, "PUT", `${where}/${number}`, content);
    const { headers, message } = await next();
    checkVapid(headers.authorization, vapid);
    assert.equal(message.event_id, sent.body.event_id);
    assert.equal(message.content?.body, text.length > 4000 ? undefined : text);
    assert.equal(headers.urgency, "high");
}
service.close();
console.log("all was read");
process.exit(0);
