// Node's http-proxy: node http-proxy.cjs PORT WEB_PORT LIVE_PORT, with NODE_PATH at its packages.
"use strict";
const http = require("node:http");
const httpProxy = require("http-proxy");

const [port, web, live] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 8192 });
const proxy = httpProxy.createProxyServer({ agent, xfwd: true });
const target = (url) => ({ target: `http://127.0.0.1:${url.startsWith("/live") ? live : web}` });

proxy.on("error", (error, request, response) => {
  if (response && response.writeHead && !response.headersSent) response.writeHead(502);
  if (response && response.end) response.end();
});
const server = http.createServer((request, response) => proxy.web(request, response, target(request.url)));
server.on("upgrade", (request, socket, head) => {
  // Its agent is for requests: an upgraded connection never comes back to it.
  proxy.ws(request, socket, head, { ...target(request.url), agent: false });
});
server.requestTimeout = 0;
server.listen({ port, host: "127.0.0.1", backlog: 4096 });
