#!/usr/bin/env node
// A workload agent that runs commands as child processes of this program: `node agent.mjs --help`.

import { chmodSync, rmSync } from "node:fs";
import { parseArgs } from "node:util";

import { makeHooks } from "./hooks.mjs";
import { makeServer } from "./server.mjs";
import { Workloads } from "./workloads.mjs";

const USAGE = `usage: node agent.mjs --state DIR (--unix PATH | --http HOST:PORT) [--token-file FILE] [--jobs N]

  --state DIR        what it keeps: one folder for each workload
  --unix PATH        listen on a Unix socket, which only this user can open
  --http HOST:PORT   listen on TCP; port 0 takes a free one
  --token-file FILE  bearer token that callers must send; needed unless only this machine can call
  --jobs N           jobs that run at once (default 4)
`;

function readOptions() {
  const text = { type: "string" };
  try {
    return parseArgs({ options: {
      state: text, unix: text, http: text, "token-file": text, jobs: { ...text, default: "4" }, help: { type: "boolean" },
    } }).values;
  } catch (error) {
    return fail(error.message);
  }
}

function fail(message) {
  process.stderr.write(`node-agent: ${message}\n\n${USAGE}`);
  process.exit(2);
}

function placeOf(options) {
  if (options.unix) {
    rmSync(options.unix, { force: true });
    return { path: options.unix };
  }
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(options.http) ?? fail(`${options.http} is not HOST:PORT`);
  if (!options["token-file"] && !["127.0.0.1", "::1", "localhost"].includes(host)) {
    fail(`everybody who reaches ${options.http} could run commands here: give --token-file FILE`);
  }
  return { host, port: Number(port) };
}

const options = readOptions();
if (options.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}
if (!options.state || !options.unix === !options.http) fail("--state and either --unix or --http are needed");
if (!/^[1-9]\d*$/.test(options.jobs)) fail(`--jobs ${options.jobs} is not a number above 0`);

const workloads = new Workloads(options.state, Number(options.jobs));
const server = makeServer(makeHooks(workloads), { tokenFile: options["token-file"] });
process.umask(0o077);
server.on("error", (error) => fail(error.message));
server.listen(placeOf(options), () => {
  if (options.unix) chmodSync(options.unix, 0o600);
  const { address, family, port } = Object(server.address());
  const url = options.unix ? `unix:${options.unix}` : `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
  process.stdout.write(`node-agent listens at ${url}\n`);
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    // Answers under way are finished; jobs end with the agent, which could not tell how they ended otherwise.
    server.close(async () => {
      await workloads.stop();
      process.exit(0);
    });
    setInterval(() => server.closeIdleConnections(), 50);
    workloads.wake();
  });
}
