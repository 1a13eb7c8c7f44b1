// Errors as problem documents (RFC 9457). The type says what the caller should do; the set is closed.

const STATUS = {
  "invalid-input": 400, // the call can never succeed: change it
  "not-found": 404, // what it names does not exist
  unsupported: 501, // this agent does not offer it
  "not-ready": 503, // no room now: call again later
  permanent: 500, // it failed for good: a person must look
  cancelled: 499, // the deadline has passed, or the caller gave up
  internal: 500, // a defect of this program
};

export class Problem extends Error {
  /**
   * @param {keyof STATUS} type what the caller should do
   * @param {string} message what was wrong and where
   * @param {{hint?: string, details?: object, status?: number, headers?: object}} more `status` in place of the type's
   */
  constructor(type, message, { hint = "", details = {}, status = STATUS[type], headers = {} } = {}) {
    super(message);
    Object.assign(this, { type, hint, details, status, headers });
  }

  get document() {
    const title = this.type.replace(/(^|-)(.)/g, (_, __, letter) => letter.toUpperCase());
    const { type, status, message: detail, hint, details } = this;
    return { type, title, status, detail, hint, details };
  }
}

/** Whatever was thrown, as a problem; what nobody meant to throw is a defect, and its stack belongs in the log. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem("internal", `${error.name}: ${error.message}`, { details: { exception: error.name } });
}
