import { errorCode, sqlstate } from '../src/db/sqlstate.ts'
import type { JobErrorColumn } from '../src/db/tables.ts'
import { redact } from '../src/redact.ts'

/** Thrown by a handler: the job has failed for good, whatever attempts are left. */
export class JobFailed extends Error {
  override name = 'JobFailed'
  readonly code: string
  readonly status: number | undefined
  readonly details: readonly unknown[] | undefined

  /**
   * @param code for programs, in kebab-case
   * @param message a sentence for the client
   * @param options.status what the result route answers, 400 to 499; default 424
   * @param options.details more, for programs
   */
  constructor(
    code: string,
    message: string,
    options: { status?: number; details?: readonly unknown[]; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause })
    this.code = code
    this.details = options.details
    this.status = options.status
    if (typeof code !== 'string' || !/^[\w.:-]{1,100}$/.test(code)) {
      throw new TypeError('JobFailed: the code must be up to 100 letters, digits, hyphens, underscores, dots or colons')
    }
    if (this.status !== undefined && !(this.status >= 400 && this.status <= 499)) {
      throw new TypeError(`JobFailed: status must be a 4xx, not ${this.status}`)
    }
  }
}

/** Thrown by a handler: try again later, without spending an attempt, as long as the job is kept. */
export class RetryAfter extends Error {
  override name = 'RetryAfter'
  readonly seconds: number

  /** @param seconds how long to wait at least */
  constructor(seconds: number) {
    super(`Again in ${seconds} s`)
    if (!(seconds >= 0)) throw new TypeError(`RetryAfter: seconds must be 0 or more, not ${seconds}`)
    this.seconds = seconds
  }
}

/** The attempt has failed, and the next one comes after a time of its own choosing. */
export class AttemptFailed extends Error {
  override name = 'AttemptFailed'
  readonly code: string
  readonly retryAfterSeconds: number

  constructor(code: string, message: string, retryAfterSeconds: number, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** A payload or a result does not fit the schema of its operation. */
export class SchemaMismatch extends Error {
  override name = 'SchemaMismatch'
  readonly code: 'invalid-payload' | 'invalid-result'

  /** @param mismatch the path that does not fit, and how */
  constructor(what: 'payload' | 'result', operation: string, mismatch: string) {
    super(`The ${what} does not fit the schema of '${operation}': ${mismatch}`)
    this.code = `invalid-${what}`
  }
}

/** The attempt took longer than the operation's `timeoutSeconds`. */
export class AttemptTimeout extends Error {
  override name = 'AttemptTimeout'

  constructor(seconds: number) {
    super(`The attempt took longer than ${seconds} s`)
  }
}

/** The process or thread that performed the job, and nothing else, ended before the job did. */
export class WorkerCrashed extends Error {
  override name = 'WorkerCrashed'
  readonly code = 'worker-crashed'
}

/** Somebody canceled the job while it was running. */
export class JobCanceled extends Error {
  override name = 'JobCanceled'

  constructor() {
    super('The job was canceled')
  }
}

/** The attempt is no longer ours: it timed out, was canceled, or another worker holds the job. What we did is rolled back. */
export class LostClaim extends Error {
  override name = 'LostClaim'
}

/** Somebody else has one of several jobs locked, or is committing its key: nothing was done, lest the others wait. */
export class JobLocked extends Error {
  override name = 'JobLocked'
}

/**
 * Makes what throws an error again, as JobLocked when it is that.
 *
 * @param isBrief whether nobody was to be waited for
 */
export const asLocked =
  (isBrief: boolean) =>
  (error: unknown): never => {
    if (isBrief && errorCode(error) === sqlstate.lockNotAvailable) throw new JobLocked('A job is locked')
    throw error
  }

/** Characters of a message that a client is shown, at most. */
const longestMessage = 500

/** What an error may say to the client: no stack, no own properties, nothing that looks like a credential. */
export function describeError(error: unknown): JobErrorColumn {
  const message = shorten(redact(storable(textOf(error))))
  if (!(error instanceof JobFailed)) return { code: codeOf(error), message }
  return {
    code: error.code,
    message,
    ...(error.status && { status: error.status }),
    ...(error.details && { details: storableDetails(error.details) }),
  }
}

function textOf(error: unknown): string {
  try {
    const text = error instanceof Error ? error.message : error
    if (typeof text === 'string') return text
  } catch {
    // A getter may throw as well.
  }
  return 'The handler threw something that is no Error'
}

// Postgres takes neither NUL nor, in jsonb, a lone surrogate; what cannot be stored would never be recorded.
const storable = (text: string) => text.replaceAll('\0', '').toWellFormed()

function storableDetails(details: readonly unknown[]): readonly unknown[] {
  try {
    const text = JSON.stringify(details, (_name, value) => (typeof value === 'bigint' ? `${value}` : value))
    return JSON.parse(text.replace(/\\(\\|u0000|ud[89a-f]..)/g, (found) => (found === '\\\\' ? found : '')))
  } catch {
    return []
  }
}

function codeOf(error: unknown): string {
  if (error instanceof AttemptFailed || error instanceof SchemaMismatch || error instanceof WorkerCrashed) {
    return error.code
  }
  return error instanceof AttemptTimeout ? 'attempt-timeout' : 'handler-error'
}

const shorten = (text: string) =>
  text.length > longestMessage ? `${text.slice(0, longestMessage)}…`.toWellFormed() : text
