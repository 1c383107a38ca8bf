// @fastify/http-proxy: node fastify-proxy.cjs PORT WEB_PORT LIVE_PORT, with NODE_PATH at its packages.
"use strict";
const fastify = require("fastify");
const httpProxy = require("@fastify/http-proxy");

const [port, web, live] = process.argv.slice(2).map(Number);
const app = fastify({ logger: false, bodyLimit: 2 ** 31 - 1, requestTimeout: 0 });
const replyOptions = {
  rewriteRequestHeaders: (request, headers) => ({
    ...headers,
    "x-forwarded-for": request.ip,
    "x-forwarded-proto": request.protocol,
    "x-forwarded-host": request.host,
  }),
};
const undici = { connections: null, pipelining: 1, bodyTimeout: 0 };
const common = { websocket: true, replyOptions, undici };

app.register(httpProxy, { ...common, upstream: `http://127.0.0.1:${live}`, prefix: "/live", rewritePrefix: "/live" });
app.register(httpProxy, { ...common, upstream: `http://127.0.0.1:${web}`, prefix: "/" });
app.listen({ port, host: "127.0.0.1", backlog: 4096 });
