// Jobs as child processes. Everything that must survive this program lies in one folder for each job.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { EventEmitter, once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { Problem } from "./problems.mjs";
import { checkPossible, collectOutputs, readJson, readMetrics, stage } from "./staging.mjs";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const TAIL_LINES = 20;
const TAIL_BYTES = 16 * 1024;
const STOP_SECONDS = 5;

const now = () => Date.now() / 1000;

export class Workloads {
  #jobs = new Map(); // name -> {folder, status, child, timers, cancelled}
  #changes = new Map(); // name -> number of its last change, oldest change first
  #bell = new EventEmitter().setMaxListeners(0);
  #boot = randomBytes(4).toString("hex");
  #count = 0;

  /**
   * @param {string} root one folder for each job; made if missing
   * @param {number} limit jobs that run at once
   */
  constructor(root, limit) {
    this.root = path.resolve(root);
    this.limit = limit;
    fs.mkdirSync(this.root, { recursive: true, mode: 0o700 });
    for (const name of fs.readdirSync(this.root)) this.#adopt(name);
  }

  submit(workload) {
    const { name } = workload;
    if (this.#jobs.has(name)) return this.status(name);
    checkPossible(workload);
    const running = [...this.#jobs.values()].filter((job) => !FINAL.has(job.status.state)).length;
    if (running >= this.limit) {
      throw new Problem("not-ready", `${running} jobs are running and at most ${this.limit} may`, { hint: "It waits for one to end." });
    }
    const folder = path.join(this.root, name);
    fs.mkdirSync(folder, { mode: 0o700 });
    const job = { folder, child: null, timers: [], cancelled: "", status: { name, state: "pending", submitted_at: now() } };
    this.#jobs.set(name, job);
    this.#update(job, {});
    job.ended = this.#run(job, workload);
    return job.status;
  }

  status(name) {
    return this.#jobs.get(name)?.status ?? { name, state: "unknown" };
  }

  async events(cursor, wait, signal) {
    const [boot, number] = cursor.split(".");
    const since = boot === this.#boot ? Number(number) : 0;
    const changed = () => [...this.#changes].filter(([name, at]) => at > since && this.#jobs.has(name));
    const until = Date.now() + wait * 1000;
    while (changed().length === 0 && Date.now() < until && !signal.aborted && !this.stopping) {
      const timeout = AbortSignal.any([signal, AbortSignal.timeout(Math.max(1, until - Date.now()))]);
      await once(this.#bell, "change", { signal: timeout }).catch(() => {});
    }
    return { statuses: changed().map(([name]) => this.status(name)), cursor: `${this.#boot}.${this.#count}` };
  }

  logs(name, cursor, limit) {
    const job = this.#known(name);
    if (!/^\d*$/.test(cursor)) throw new Problem("invalid-input", `${cursor} is not a cursor of this log`, { hint: "Start with an empty one." });
    const ended = FINAL.has(job.status.state);
    const [start, log] = [Number(cursor), path.join(job.folder, "log")];
    const size = fs.existsSync(log) ? fs.statSync(log).size : 0;
    const block = read(log, start, Math.min(Math.max(4, limit), size - start));
    const last = start + block.length >= size;
    const whole = ended && last ? block : wholeCharacters(block);
    return { text: whole.toString("utf8"), cursor: String(start + whole.length), complete: ended && last };
  }

  cancel(name, grace) {
    const job = this.#jobs.get(name);
    if (job && !FINAL.has(job.status.state) && !job.cancelled) this.#end(job, grace, "cancelled");
    return this.status(name);
  }

  collect(name) {
    const job = this.#jobs.get(name);
    if (!job) return false;
    if (!FINAL.has(job.status.state)) throw new Problem("invalid-input", `the workload ${name} has not ended`, { hint: "Cancel it first." });
    this.#jobs.delete(name);
    this.#changes.delete(name);
    fs.rmSync(job.folder, { recursive: true, force: true });
    return true;
  }

  /** Let everybody who waits for events go. */
  wake() {
    this.stopping = true;
    this.#bell.emit("change");
  }

  /** End all jobs. */
  async stop() {
    const running = [...this.#jobs.values()].filter((job) => !FINAL.has(job.status.state));
    for (const job of running) this.#end(job, STOP_SECONDS, "Lost");
    await Promise.all(running.map((job) => job.ended));
  }

  // -- one job -------------------------------------------------------------------------------------------------------

  async #run(job, workload) {
    const { runnable, timeout } = workload;
    try {
      this.#update(job, { state: "preparing", phase: "copying inputs" });
      const start = await stage(workload, job.folder);
      if (job.cancelled) return this.#finish(job, { signal: null });
      this.#update(job, { state: "running", phase: "", started_at: now() });
      const seconds = timeout ?? runnable.timeout;
      if (seconds) job.timers.push(setTimeout(() => this.#end(job, STOP_SECONDS, "Timeout"), seconds * 1000));
      const [code, signal] = await this.#execute(job, start);
      if (job.cancelled || code !== 0) return this.#finish(job, { code, signal });
      this.#update(job, { phase: "collecting outputs" });
      const outputs = await collectOutputs(runnable.outputs, job.folder);
      return this.#close(job, { state: "succeeded", exit_code: 0, outputs });
    } catch (error) {
      const reason = error.reason ?? (job.status.started_at ? "ExitCode" : "Staging");
      return this.#close(job, { state: "failed", reason, message: error.message });
    }
  }

  async #execute(job, { command: [program, ...rest], cwd, env }) {
    const log = fs.openSync(path.join(job.folder, "log"), "a");
    try {
      // A process group of its own, so that what the job starts is ended with it.
      job.child = spawn(program, rest, { cwd, env, detached: true, stdio: ["ignore", log, log] });
      fs.writeFileSync(path.join(job.folder, "pid"), String(job.child.pid ?? ""));
      return await once(job.child, "exit");
    } catch (error) {
      throw Object.assign(new Error(`${program} cannot be started: ${error.message}`), { reason: "Environment" });
    } finally {
      fs.closeSync(log);
      if (job.child?.pid) kill(job.child.pid, "SIGKILL");
    }
  }

  #end(job, grace, why) {
    job.cancelled = why;
    if (!job.child?.pid) return;
    kill(job.child.pid, "SIGTERM");
    job.timers.push(setTimeout(() => kill(job.child.pid, "SIGKILL"), grace * 1000));
  }

  #finish(job, { code = null, signal }) {
    const facts = { exit_code: code, signal: signal ? os.constants.signals[signal] : null };
    if (job.cancelled === "cancelled") return this.#close(job, { state: "cancelled", message: "it was cancelled", ...facts });
    const [reason, message] = {
      Timeout: ["Timeout", "it took longer than its timeout"],
      Lost: ["Lost", "the agent was stopped while it ran"],
    }[job.cancelled] ?? (signal ? ["Signal", `it was ended by ${signal}`] : ["ExitCode", `it ended with exit code ${code}`]);
    return this.#close(job, { state: "failed", reason, message, ...facts });
  }

  #close(job, facts) {
    job.timers.forEach(clearTimeout);
    const end = now();
    const { started_at: started, submitted_at: submitted } = job.status;
    const timings = started ? { staging: started - submitted, running: end - started } : {};
    this.#update(job, { phase: "", ended_at: end, log_tail: tail(job.folder), metrics: readMetrics(job.folder), timings, ...facts });
  }

  #update(job, facts) {
    job.status = { ...job.status, ...facts };
    // Written beside and renamed, so that a crash leaves the old status or the new one.
    const place = path.join(job.folder, "status.json");
    fs.writeFileSync(`${place}.new`, JSON.stringify(job.status));
    fs.renameSync(`${place}.new`, place);
    const { name } = job.status;
    this.#changes.delete(name);
    this.#changes.set(name, (this.#count += 1));
    this.#bell.emit("change");
  }

  /** Take over a job of the program that ran here before. What it did not see end is lost. */
  #adopt(name) {
    const folder = path.join(this.root, name);
    const status = readJson(path.join(folder, "status.json"));
    if (!status) return fs.rmSync(folder, { recursive: true, force: true });
    const job = { folder, status, child: null, timers: [], cancelled: "" };
    this.#jobs.set(name, job);
    if (FINAL.has(status.state)) return this.#update(job, {});
    const pid = Number(readJson(path.join(folder, "pid")));
    if (pid && runs(pid, name)) kill(pid, "SIGKILL");
    return this.#close(job, { state: "failed", reason: "Lost", message: "the agent was killed while it ran" });
  }

  #known(name) {
    const job = this.#jobs.get(name);
    if (!job) throw new Problem("not-found", `there is no workload ${name}`, { hint: "It was never submitted, or was collected." });
    return job;
  }
}

function kill(group, signal) {
  try {
    process.kill(-group, signal);
  } catch (error) {
    if (error.code !== "ESRCH" && error.code !== "EPERM") throw error;
  }
}

/** Whether the process is still that job: numbers of processes are used again. */
function runs(pid, name) {
  try {
    return fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`FUSEML_WORKLOAD=${name}`);
  } catch {
    return false;
  }
}

function read(file, start, length) {
  if (length <= 0) return Buffer.alloc(0);
  const descriptor = fs.openSync(file, "r");
  try {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, fs.readSync(descriptor, buffer, 0, length, start));
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Without the bytes at the end that are the beginning of a character. */
function wholeCharacters(block) {
  for (let back = 1; back <= Math.min(3, block.length); back += 1) {
    const byte = block[block.length - back];
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? block.subarray(0, block.length - back) : block;
    }
    if (byte < 0x80) return block;
  }
  return block;
}

function tail(folder) {
  const log = path.join(folder, "log");
  if (!fs.existsSync(log)) return [];
  const { size } = fs.statSync(log);
  const start = Math.max(0, size - TAIL_BYTES);
  const lines = read(log, start, size - start).toString("utf8").split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines.slice(-TAIL_LINES);
}
