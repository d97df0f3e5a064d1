// A client that logs in by OAuth as matrix-js-sdk does it, told what to do by lines of
// JSON on standard input ({id, do, ...}), answering on standard output ({id, ok} or
// {id, error}).

import { createInterface } from "node:readline";
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";
import { OAuth2 } from "matrix-js-sdk/lib/oauth/index.js";
import { TokenRefresher } from "matrix-js-sdk/lib/oauth/tokenRefresher.js";

const answers = process.stdout;
console.log = console.info = console.debug = () => {};
console.warn = console.error = (...said) => process.stderr.write(said.join(" ") + "\n");
logger.setLevel?.("error");

let baseUrl, metadata, auth, session;

const orders = {
    // What Element does first: find the server's metadata, and register.
    async begin({ base_url, client }) {
        baseUrl = base_url;
        metadata = await sdk.createClient({ baseUrl }).getAuthMetadata();
        const clientId = await OAuth2.registerClient(metadata, client);
        auth = new OAuth2(metadata, { clientId });
        return { device_id: auth.context.deviceId, account: metadata.account_management_uri };
    },
    async asks({ state, redirect_uri, mode, prompt }) {
        return auth.generateAuthorizationCodeGrantUrl(state, redirect_uri, mode, prompt);
    },
    async trades({ code, redirect_uri }) {
        session = await auth.completeAuthorizationCodeGrant(code, redirect_uri);
        return session.scope;
    },
    async waits() {
        session = undefined;
        const started = await auth.startDeviceAuthorizationGrant();
        // As often as the server wants, but the test does not wait so long.
        auth.waitForDeviceAuthorizationGrant(started).then((found) => (session = found));
        return started;
    },
    async gets() {
        for (let tries = 0; !session && tries < 800; tries++)
            await new Promise((resolve) => setTimeout(resolve, 25));
        return { error: session?.error ?? null };
    },
    async refreshes() {
        const refresher = new TokenRefresher(auth, async () => {});
        const found = await refresher.refreshTokens(session.refresh_token);
        session = {
            access_token: found.accessToken,
            refresh_token: found.refreshToken,
        };
        return true;
    },
    async revokes() {
        await auth.revokeToken(session.access_token, "access_token");
        return true;
    },
    // An ordinary client with these tokens.
    async whoami() {
        const accessToken = session.access_token;
        const client = sdk.createClient({ baseUrl, accessToken });
        try {
            return await client.whoami();
        } catch (error) {
            return { errcode: error.errcode };
        }
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: what, ...given } = JSON.parse(line);
    let answer;
    try {
        answer = { id, ok: (await orders[what](given)) ?? null };
    } catch (error) {
        answer = { id, error: String(error?.stack ?? error) };
    }
    answers.write(JSON.stringify(answer) + "\n");
}
