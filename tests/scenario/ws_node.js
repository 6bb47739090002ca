// Debian's node-ws as a client and as a server, for test_ws_clients.py.
//   node ws_node.js echo PORT [PROTOCOL]     each message is answered with itself
//   node ws_node.js ask URL SIZE …           random messages of these sizes, text and binary, have to come back; "ok"
"use strict";
const assert = require("assert");
const crypto = require("crypto");
const WebSocket = require("ws");

function echo(port, protocol) {
  const options = { host: "127.0.0.1", port: Number(port), perMessageDeflate: true };
  if (protocol) options.handleProtocols = (offered) => (offered.has(protocol) ? protocol : false);
  const server = new WebSocket.Server(options);
  server.on("connection", (socket) => {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  });
}

function once(socket, event) {
  return new Promise((resolve, reject) => {
    socket.once(event, (...values) => resolve(values));
    socket.once("error", reject);
  });
}

async function ask(url, ...sizes) {
  const socket = new WebSocket(url, { rejectUnauthorized: true });
  await once(socket, "open");
  for (const size of sizes.map(Number)) {
    const data = crypto.randomBytes(size);
    for (const message of [data, data.toString("hex")]) {
      const answer = once(socket, "message");
      socket.send(message);
      const [got, binary] = await answer;
      assert.strictEqual(binary, typeof message !== "string");
      assert(got.equals(Buffer.from(message)), `another message of ${got.length} bytes came back`);
    }
  }
  const pong = once(socket, "pong");
  socket.ping("are you there");
  assert.strictEqual((await pong)[0].toString(), "are you there");
  const closed = once(socket, "close");
  socket.close(4321, "bye");
  const [code, reason] = await closed;
  console.log("ok", code, reason.toString(), socket.extensions);
}

const [mode, ...words] = process.argv.slice(2);
({ echo, ask })[mode](...words);
