// The hooks of a workload agent: what they take, and who does the work.

import os from "node:os";

import { SCHEMES } from "./staging.mjs";

const text = (value) => (typeof value === "string" ? "" : "not a text");
const seconds = (value) => (typeof value === "number" && value >= 0 ? "" : "not a number of seconds");
const count = (value) => (Number.isInteger(value) ? "" : "not a whole number");
const texts = (value) => (Array.isArray(value) && !value.some(text) ? "" : "not a list of texts");

function workload(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return "not an object";
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(value.name)) return "name is not made of a-z, 0-9 and hyphens";
  if (value.runnable === null || typeof value.runnable !== "object") return "runnable is not an object";
  const { command, outputs = [] } = value.runnable;
  if (!Array.isArray(command) || command.length === 0 || command.some(text)) return "runnable.command is not a command";
  if (!Array.isArray(value.inputs ?? [])) return "inputs is not a list";
  // Names become names of folders.
  const names = [...(value.inputs ?? []), ...outputs].map((port) => port?.name);
  return names.every((name) => /^[a-z][a-z0-9_]*$/.test(name)) ? "" : "an input or output has a name that cannot be";
}

/** The table that the server serves: each hook with a check for every parameter. */
export function makeHooks(workloads) {
  return {
    agent_describe: { parameters: {}, run: () => describe(workloads) },
    agent_submit: { parameters: { workload }, run: ({ workload }) => workloads.submit(workload) },
    agent_status: { parameters: { names: texts }, run: ({ names }) => names.map((name) => workloads.status(name)) },
    agent_events: {
      parameters: { cursor: text, wait: seconds },
      run: ({ cursor, wait }, signal) => workloads.events(cursor, Math.min(wait, 30), signal),
    },
    agent_logs: {
      parameters: { name: text, cursor: text, limit: count },
      run: ({ name, cursor, limit }) => workloads.logs(name, cursor, limit),
    },
    agent_cancel: { parameters: { name: text, grace: seconds }, run: ({ name, grace }) => workloads.cancel(name, grace) },
    agent_collect: { parameters: { name: text }, run: ({ name }) => workloads.collect(name) },
  };
}

const describe = (workloads) => ({
  name: "node",
  kinds: ["job"],
  environments: ["python"],
  schemes: SCHEMES,
  capabilities: { runtime: "node" },
  capacity: { cpu: os.cpus().length, memory: os.totalmem(), jobs: workloads.limit },
  domains: ["local"],
  concurrency: 32,
});
