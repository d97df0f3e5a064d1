// A bridge to nowhere: for everybody who says something, a puppet says it again.
// node echo.cjs REGISTRATION HOMESERVER_URL DOMAIN PORT
const { Bridge } = require("matrix-appservice-bridge");

const [registration, homeserverUrl, domain, port] = process.argv.slice(2);

const bridge = new Bridge({
  homeserverUrl,
  domain,
  registration,
  disableStores: true,
  controller: {
    onUserQuery: () => ({ name: "An echo" }),
    onAliasQuery: (_alias, localpart) => ({
      creationOpts: {
        room_alias_name: localpart,
        name: "Canyon",
        preset: "public_chat",
      },
    }),
    onEvent: async (request) => {
      const event = request.getData();
      if (event.type !== "m.room.message") return;
      const localpart = event.sender.slice(1).split(":")[0];
      if (localpart.startsWith("echo")) return;
      const puppet = bridge.getIntentFromLocalpart(`echo_of_${localpart}`);
      await puppet.sendText(event.room_id, event.content.body);
    },
  },
});

bridge.run(Number(port), undefined, "127.0.0.1").catch((error) => {
  console.error(error);
  process.exit(1);
});
