// OpenID Connect providers, told what to do by lines of JSON on standard input
// ({id, do, ...}), answering on standard output ({id, ok} or {id, error}).

import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { createInterface } from "node:readline";
import Provider from "oidc-provider";

const answers = process.stdout;
console.log = console.info = console.debug = () => {};
console.warn = console.error = (...said) => process.stderr.write(said.join(" ") + "\n");

const providers = new Map();

function newKey(kid) {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" };
}

function build(one) {
    const provider = new Provider(one.issuer, {
        clients: one.clients,
        jwks: { keys: one.keys },
        cookies: { keys: ["a secret of these tests"] },
        pkce: { required: () => false },
        claims: {
            openid: ["sub"],
            profile: ["name", "preferred_username", "picture", "groups"],
            email: ["email", "email_verified"],
        },
        conformIdTokenClaims: false,
        features: {
            devInteractions: { enabled: false },
            backchannelLogout: { enabled: true },
        },
        // It calls back nobody on loopback by itself, and that is where these tests are.
        fetch: (url, { dispatcher: _guarded, ...options }) => fetch(url, options),
        clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
        async findAccount(_context, sub) {
            return { accountId: sub, claims: () => ({ sub, ...one.accounts[sub] }) };
        },
        async loadExistingGrant(context) {
            const grant = new context.oidc.provider.Grant({
                clientId: context.oidc.client.clientId,
                accountId: context.oidc.session.accountId,
            });
            grant.addOIDCScope("openid profile email");
            await grant.save();
            return grant;
        },
    });
    provider.on("server_error", (_context, error) => console.error(error.stack));
    provider.on("backchannel.error", (_context, error, client) => console.error(client.clientId, error.stack));
    return provider;
}

const orders = {
    async start({ name, port, clients, accounts }) {
        const one = { issuer: `http://127.0.0.1:${port}`, clients, accounts, keys: [newKey("first")], as: null };
        one.provider = build(one);
        one.callback = one.provider.callback();
        one.server = createServer(async (request, response) => {
            if (request.url === "/picture.png") {
                response.setHeader("Content-Type", "image/png");
                return response.end("a picture");
            }
            if (!request.url.startsWith("/interaction/")) return one.callback(request, response);
            // Whoever the test says logs in; nobody says no.
            const result = one.as === null
                ? { error: "access_denied", error_description: "no" }
                : { login: { accountId: one.as } };
            return one.provider.interactionFinished(request, response, result).catch((error) => {
                response.statusCode = 400;
                response.end(String(error));
            });
        });
        await new Promise((done) => one.server.listen(port, "127.0.0.1", done));
        providers.set(name, one);
        return one.issuer;
    },
    async person({ name, sub }) {
        providers.get(name).as = sub;
    },
    // Sign with another key from now on; the old one is no longer published.
    async rotate({ name, kid }) {
        const one = providers.get(name);
        one.keys = [newKey(kid)];
        one.provider = build(one);
        one.callback = one.provider.callback();
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    try {
        const ok = await orders[order.do](order);
        answers.write(JSON.stringify({ id: order.id, ok: ok ?? null }) + "\n");
    } catch (error) {
        answers.write(JSON.stringify({ id: order.id, error: String(error?.stack ?? error) }) + "\n");
    }
}
process.exit(0);
