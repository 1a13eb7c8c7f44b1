// What a job is given and what it leaves: its folder, its command, its variables, its outputs.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { Problem } from "./problems.mjs";

const PLACEHOLDER = /\{(?:(input|output|parameter|python)\.([A-Za-z0-9_.-]+)|(runnable|python))\}/g;
const MAX_VALUE = 64 * 1024;

/** Schemes of the locations that this agent can fetch, preferred first. */
export const SCHEMES = ["file", "git+file"];

/** Refuse what this agent can never run, with the reason. */
export function checkPossible(workload) {
  const { runnable, inputs = [], parameters = {}, contents, kind = "job" } = workload;
  const { lock, wheels, from_input: fromInput, image } = runnable.environment ?? {};
  const refuse = (why, hint = "") => { throw new Problem("invalid-input", `${runnable.name}: ${why}`, { hint }); };
  if (kind !== "job" || runnable.service) refuse("this agent runs no services", "Use another agent.");
  if (lock || wheels || fromInput || image) {
    refuse("it needs an environment, and this agent has only what the machine has", "Use another agent.");
  }
  for (const { uri } of [...inputs.map((input) => input.location), ...(contents ? [contents] : [])]) {
    const scheme = uri.split(":")[0];
    if (!SCHEMES.includes(scheme)) refuse(`this agent cannot fetch ${scheme}: locations`, `It can fetch ${SCHEMES.join(", ")}.`);
  }
  for (const [family, declared, given] of [
    ["input", runnable.inputs ?? [], inputs.map((input) => input.name)],
    ["parameter", runnable.parameters ?? [], Object.keys(parameters)],
  ]) {
    for (const { name, optional, required } of declared) {
      const needed = family === "input" ? !optional : required;
      if (needed && !given.includes(name)) refuse(`it needs the ${family} ${name}, which is not given`);
    }
    const unknown = given.find((name) => !declared.some((spec) => spec.name === name));
    if (unknown && !(family === "parameter" && runnable.open_parameters)) refuse(`it has no ${family} ${unknown}`);
  }
}

/** Make the folders of a job, copy its inputs, and say how it is started. */
export async function stage(workload, folder) {
  const { runnable, inputs = [], parameters = {}, contents, labels = {} } = workload;
  const at = (...parts) => path.join(folder, ...parts);
  for (const name of ["scratch", "tmp", "inputs", "outputs", "info"]) fs.mkdirSync(at(name), { recursive: true });
  const values = { runnable: contents ? fileURLToPath(contents.uri) : at("scratch"), python: "python3" };
  for (const { name, location } of inputs) {
    values[`input.${name}`] = at("inputs", name);
    await fetch(location.uri, at("inputs", name), at("tmp"));
  }
  for (const { name, kind } of runnable.outputs ?? []) {
    values[`output.${name}`] = at("outputs", name);
    if (kind !== "value") fs.mkdirSync(at("outputs", name), { recursive: true });
  }
  for (const [name, value] of Object.entries(parameters)) values[`parameter.${name}`] = String(value);
  writeInformation(workload, at, values);
  return {
    command: commandOf(runnable, values),
    cwd: runnable.working_directory ? values[`input.${runnable.working_directory}`] : at("scratch"),
    // Never the agent's own variables: there may be secrets among them.
    env: {
      PATH: process.env.PATH, LANG: "C.UTF-8", HOME: at("scratch"), TMPDIR: at("tmp"), FUSEML_WORKLOAD: workload.name,
      FUSEML_PROJECT: labels.project ?? "", FUSEML_RUNNABLE: values.runnable, FUSEML_METRICS: at("metrics.jsonl"),
      FUSEML_CONFIG: at("config.json"), ...variablesOf(runnable, parameters, values, at), ...runnable.env, ...workload.env,
    },
  };
}

/** Copy contents, because a job may write to what it is given, and a store's contents never change. */
async function fetch(uri, target, scratch) {
  if (!uri.startsWith("git+")) return fs.promises.cp(fileURLToPath(uri), target, { recursive: true });
  const place = new URL(uri.slice("git+".length));
  const commit = place.searchParams.get("commit") ?? "";
  if (!/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(commit)) throw Object.assign(new Error(`${uri} names no commit`), { reason: "Staging" });
  fs.mkdirSync(target);
  place.search = "";
  const own = path.join(scratch, "repository");
  const git = (...words) => promisify(execFile)("git", words, {
    // A repository and an index of its own, with the other's objects alone: what is configured there, such as a filter, would be run.
    env: {
      PATH: process.env.PATH, HOME: scratch, GIT_INDEX_FILE: path.join(scratch, "index"), GIT_CONFIG_NOSYSTEM: "1",
      GIT_ALTERNATE_OBJECT_DIRECTORIES: JSON.stringify(path.join(fileURLToPath(place), "objects")),
    },
  });
  await git("init", "--quiet", "--bare", "--template=", ...(commit.length === 64 ? ["--object-format=sha256"] : []), own);
  await git(`--git-dir=${own}`, "read-tree", commit);
  await git(`--git-dir=${own}`, `--work-tree=${target}`, "checkout-index", "--all", "--force");
  fs.rmSync(own, { recursive: true });
}

function commandOf(runnable, values) {
  const used = new Set();
  const fill = (argument) => argument.replace(PLACEHOLDER, (_, family, name, alone) => {
    used.add(alone ?? `${family}.${name}`);
    return values[alone ?? `${family}.${name}`] ?? "";
  });
  const command = runnable.command.map(fill);
  for (const [family, specs] of [["input", runnable.inputs ?? []], ["parameter", runnable.parameters ?? []]]) {
    for (const { name, deliver, argument } of specs) {
      const key = `${family}.${name}`;
      if (deliver === "argument" && !used.has(key) && key in values) command.push(...(argument ? [argument] : []), values[key]);
    }
  }
  return command;
}

const variable = (name) => name.toUpperCase().replace(/[^A-Z0-9]/g, "_");

function variablesOf(runnable, parameters, values, at) {
  const found = {};
  for (const [key, value] of Object.entries(values)) {
    const [family, name] = key.split(/\.(.*)/s);
    if (family !== "input" && family !== "output") continue;
    found[`FUSEML_${variable(family)}_${variable(name)}`] = value;
    found[`FUSEML_${variable(family)}_${variable(name)}_INFO`] = at("info", `${family}-${name}.json`);
  }
  for (const name of Object.keys(parameters)) {
    const spec = (runnable.parameters ?? []).find((each) => each.name === name);
    if ((spec?.deliver ?? "env") === "env") found[`FUSEML_PARAMETER_${variable(name)}`] = values[`parameter.${name}`];
  }
  return found;
}

/** The files beside the variables: what is known of each input, and everything whose delivery is `config`. */
function writeInformation({ runnable, inputs = [], parameters = {} }, at, values) {
  for (const { name, kind, digest = "", metadata = {} } of inputs) {
    fs.writeFileSync(at("info", `input-${name}.json`), JSON.stringify({ kind, digest, metadata }));
  }
  const config = {};
  for (const { name, deliver } of runnable.parameters ?? []) {
    if (deliver === "config" && name in parameters) config[name] = parameters[name];
  }
  for (const { name, deliver } of runnable.inputs ?? []) {
    if (deliver === "config") config[name] = values[`input.${name}`];
  }
  fs.writeFileSync(at("config.json"), JSON.stringify(config));
}

/** What a job that ended well has left. Throws a reason as the contract has it when a required output is missing. */
export async function collectOutputs(specs = [], folder) {
  const found = [];
  for (const spec of specs) {
    const place = path.join(folder, "outputs", spec.name);
    const info = readJson(path.join(folder, "info", `output-${spec.name}.json`)) ?? {};
    const made = spec.kind === "value" ? readValue(place) : await readArtifacts(spec, place, info);
    if (made.length === 0 && !spec.optional) {
      throw Object.assign(new Error(`the job left nothing in its output ${spec.name}: it must write to what the variable `
        + `FUSEML_OUTPUT_${variable(spec.name)} names`), { reason: "MissingOutput" });
    }
    const common = { name: spec.name, kind: spec.kind };
    found.push(...made.map((each) => ({ ...common, ...facts(spec, info), ...each })));
  }
  return found;
}

const facts = (spec, info) => ({
  artifact_name: info.name ?? null, type: info.type ?? spec.type ?? null, labels: info.labels ?? {},
  metadata: info.metadata ?? {},
});

function readValue(place) {
  if (!fs.existsSync(place) || !fs.statSync(place).isFile()) return [];
  if (fs.statSync(place).size > MAX_VALUE) {
    throw Object.assign(new Error(`a value has more than ${MAX_VALUE} bytes`), { reason: "InvalidOutput" });
  }
  return [{ value: fs.readFileSync(place, "utf8").trim() }];
}

async function readArtifacts(spec, place, info) {
  if (!spec.many) {
    const files = await filesOf(place);
    return files.length ? [{ location: { uri: pathToFileURL(place).href }, files }] : [];
  }
  const found = [];
  for (const entry of fs.readdirSync(place, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const folder = path.join(place, entry.name);
    const files = entry.isDirectory() ? await filesOf(folder) : [];
    const own = info[entry.name] ?? {};
    const named = { ...facts(spec, own), artifact_name: own.name ?? entry.name };
    if (files.length) found.push({ location: { uri: pathToFileURL(folder).href }, files, ...named });
  }
  return found;
}

async function filesOf(folder, prefix = "") {
  const found = [];
  for (const entry of fs.readdirSync(path.join(folder, prefix), { withFileTypes: true })) {
    const name = path.posix.join(prefix, entry.name);
    if (entry.isDirectory()) found.push(...await filesOf(folder, name));
    else if (entry.isFile()) found.push(await fileEntry(path.join(folder, name), name));
    else throw Object.assign(new Error(`${name} is neither a file nor a folder`), { reason: "InvalidOutput" });
  }
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function fileEntry(place, name) {
  const hash = createHash("sha256");
  for await (const part of fs.createReadStream(place)) hash.update(part);
  const { size, mode } = fs.statSync(place);
  return { path: name, size, digest: `sha256:${hash.digest("hex")}`, executable: (mode & 0o100) !== 0 };
}

/** Metrics that the job wrote, one JSON object a line; lines that are none are left out. */
export function readMetrics(folder) {
  const place = path.join(folder, "metrics.jsonl");
  if (!fs.existsSync(place)) return [];
  return fs.readFileSync(place, "utf8").split("\n").flatMap((line) => {
    try {
      const { key, value, step = 0, timestamp = Date.now() / 1000 } = JSON.parse(line);
      return typeof key === "string" && Number.isFinite(value) ? [{ key, value, step, timestamp }] : [];
    } catch {
      return [];
    }
  });
}

export function readJson(place) {
  try {
    return JSON.parse(fs.readFileSync(place, "utf8"));
  } catch {
    return undefined;
  }
}
