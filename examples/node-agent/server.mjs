// The wire: HTTP/1.1 and JSON. It knows routes, limits and headers, and nothing of what the hooks do.

import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";

import { Problem, problemOf } from "./problems.mjs";

const PROTOCOL = 1;
const MAX_HEAD = 32 * 1024;
const MAX_BODY = 64 * 1024 * 1024;
/** Bytes of a body that is read although its request is refused, so that the sender gets to read the answer. */
const SMALL = 1024 * 1024;
/** Statuses of refusals that leave the body unread: it is too large, or nobody knows how large. */
const UNREAD = [411, 413];

/**
 * @param {Object<string, {parameters: object, run: function}>} hooks by name; `parameters` maps names to checks
 * @param {{tokenFile?: string}} options `tokenFile` holds the bearer token that callers must send
 * @returns {http.Server} not listening yet
 */
export function makeServer(hooks, { tokenFile } = {}) {
  const server = http.createServer({ maxHeaderSize: MAX_HEAD, requestTimeout: 30_000, headersTimeout: 30_000 });
  server.keepAliveTimeout = 75_000;
  server.on("request", (request, response) => serve(hooks, tokenFile, request, response));
  server.on("checkContinue", (request, response) => serve(hooks, tokenFile, request, response));
  server.on("clientError", refuseUnreadable);
  return server;
}

async function serve(hooks, tokenFile, request, response) {
  try {
    const answer = await route(hooks, tokenFile, request, response);
    send(response, 200, "application/json", answer);
  } catch (error) {
    const problem = problemOf(error);
    await discard(request, problem.status);
    // What was not read of the body would be taken for the next request.
    const headers = request.complete ? problem.headers : { ...problem.headers, connection: "close" };
    send(response, problem.status, "application/problem+json", JSON.stringify(problem.document), headers);
  }
}

/** Read what is left of a request that is refused. */
async function discard(request, status) {
  if (UNREAD.includes(status) || Number(request.headers["content-length"] ?? 0) > SMALL) return;
  try {
    for await (const part of request) void part;
  } catch {
    // The sender went away.
  }
}

async function route(hooks, tokenFile, request, response) {
  const path = request.url.split("?", 1)[0];
  if (path === "/healthz") return only("GET", request, { status: "alive" });
  if (path === "/readyz") return only("GET", request, { status: "ready", facts: {} });
  checkToken(tokenFile, request.headers.authorization);
  if (path === `/v${PROTOCOL}/describe`) return only("GET", request, describe(hooks));
  const name = path.startsWith(`/v${PROTOCOL}/hooks/`) ? path.slice(`/v${PROTOCOL}/hooks/`.length) : "";
  if (!Object.hasOwn(hooks, name)) {
    throw /^(store|agent|builder|fuseml)_[a-z_]+$/.test(name)
      ? new Problem("unsupported", `the agent does not offer ${name}`)
      : new Problem("not-found", `there is no ${path}`, { hint: `See /v${PROTOCOL}/describe for the hooks.` });
  }
  only("POST", request);
  const deadline = deadlineOf(request.headers["fuseml-deadline-ms"]);
  const values = checkArguments(name, hooks[name].parameters, await readJson(request));
  if (Date.now() >= deadline) throw new Problem("cancelled", `the deadline of ${name} had passed when the call arrived`);
  const result = await hooks[name].run(values, signalFor(response));
  const id = request.headers["fuseml-call-id"];
  if (id && /^[\x20-\x7e]{1,64}$/.test(id)) response.setHeader("fuseml-call-id", id);
  return JSON.stringify(result);
}

const describe = (hooks) => ({
  protocols: [PROTOCOL],
  hooks: Object.fromEntries(Object.keys(hooks).map((name) => [name, { idempotent: true }])),
  failure: null,
});

function only(method, request, document) {
  if (request.method === method) return JSON.stringify(document);
  throw new Problem("invalid-input", `only ${method} is allowed here`, { status: 405, headers: { allow: method } });
}

function checkToken(file, header = "") {
  if (!file) return;
  const digest = (text) => createHash("sha256").update(text).digest();
  const [scheme, given = ""] = header.split(" ");
  // Read for every request, so that the token can be changed without a restart.
  const wanted = readFileSync(file, "utf8").trim();
  if (wanted && scheme.toLowerCase() === "bearer" && timingSafeEqual(digest(given), digest(wanted))) return;
  throw new Problem("permanent", "the request bears no token, or a wrong one", {
    hint: "Send `authorization: Bearer TOKEN`.", status: 401, headers: { "www-authenticate": "Bearer" },
  });
}

function deadlineOf(milliseconds) {
  if (milliseconds === undefined || milliseconds === "") return Infinity;
  if (/^\d+$/.test(milliseconds)) return Date.now() + Number(milliseconds);
  throw new Problem("invalid-input", "the header fuseml-deadline-ms is not a whole number of milliseconds");
}

async function readJson(request) {
  if ("transfer-encoding" in request.headers) {
    throw new Problem("invalid-input", "a body needs content-length; transfer encodings are not accepted", { status: 411 });
  }
  if (Number(request.headers["content-length"] ?? 0) > MAX_BODY) {
    throw new Problem("invalid-input", `the body is larger than ${MAX_BODY} bytes`, { status: 413 });
  }
  const parts = [];
  for await (const part of request) parts.push(part);
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(parts)) || "{}");
  } catch (error) {
    throw new Problem("invalid-input", `the body is not JSON: ${error.message}`);
  }
}

function checkArguments(hook, parameters, body) {
  if (body === null || typeof body !== "object" || Array.isArray(body)) {
    throw new Problem("invalid-input", `${hook}: the arguments are not a JSON object`);
  }
  // Unknown arguments are ignored: a later contract may have them.
  return Object.fromEntries(Object.entries(parameters).map(([name, check]) => {
    if (!Object.hasOwn(body, name)) throw new Problem("invalid-input", `${hook}: ${name}: missing`);
    const wrong = check(body[name]);
    if (wrong) throw new Problem("invalid-input", `${hook}: ${name}: ${wrong}`);
    return [name, body[name]];
  }));
}

/** Aborted when the caller hangs up before it has its answer: that is how a call is cancelled. */
function signalFor(response) {
  const controller = new AbortController();
  response.on("close", () => controller.abort());
  return controller.signal;
}

function send(response, status, type, text, headers = {}) {
  if (response.destroyed) return;
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(text), ...headers });
  response.end(text);
}

function refuseUnreadable(error, socket) {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy();
  const statuses = { HPE_HEADER_OVERFLOW: [431, "Request Header Fields Too Large"], ERR_HTTP_REQUEST_TIMEOUT: [408, "Timeout"] };
  const [status, reason] = statuses[error.code] ?? [400, "Bad Request"];
  const body = JSON.stringify(new Problem("invalid-input", `the request cannot be read: ${reason}`, { status }).document);
  socket.end(`HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/problem+json\r\n`
    + `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`);
}
