import type { JobErrorColumn } from '../src/db/tables.ts'
import { brand } from '../src/primitives/brand.ts'
import { isSecretName } from '../src/primitives/credentials.ts'
import { messageOf, messageWithCauses, storableMessage } from '../src/primitives/error-text.ts'
import { DecryptionError } from '../src/primitives/key-ring.ts'
import { redact } from '../src/primitives/redact.ts'

/**
 * Thrown by a handler to fail the job for good, even if attempts are left. Clients see its code, message and details.
 * `instanceof` recognises the errors of every copy of this package.
 */
export class JobFailed extends Error {
  override name = 'JobFailed'
  readonly code: string
  readonly status: number | undefined
  readonly details: readonly unknown[] | undefined

  static {
    brand(JobFailed, 'accepted.JobFailed', ({ code, message, status, details }) => {
      const hasText = isErrorCode(code) && typeof message === 'string'
      return hasText && isErrorStatus(status) && (details === undefined || Array.isArray(details))
    })
  }

  /**
   * @param code for programs: up to 100 letters, digits, hyphens, underscores, dots or colons
   * @param message a sentence for the client; the status URL shows it
   * @param options.status the HTTP status of the result URL, 400 to 499. Default: 424.
   * @param options.details more information for programs: any JSON values
   * @throws TypeError when the code or the status is invalid
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
    if (!isErrorCode(code)) {
      throw new TypeError('JobFailed: the code must be up to 100 letters, digits, hyphens, underscores, dots or colons')
    }
    if (!isErrorStatus(this.status)) throw new TypeError(`JobFailed: status must be a 4xx, not ${this.status}`)
  }
}

const isErrorCode = (code: unknown) => typeof code === 'string' && /^[\w.:-]{1,100}$/.test(code)

const isErrorStatus = (status: unknown) =>
  status === undefined || (Number.isInteger(status) && (status as number) >= 400 && (status as number) <= 499)

/**
 * Thrown by a handler to run the job again later without using up an attempt. If the job's record would expire before
 * that time, the attempt counts as a failed attempt. `instanceof` recognises the errors of every copy of this package.
 */
export class RetryAfter extends Error {
  override name = 'RetryAfter'
  readonly seconds: number

  static {
    brand(RetryAfter, 'accepted.RetryAfter', ({ seconds }) => typeof seconds === 'number' && seconds >= 0)
  }

  /** @param seconds the minimum pause before the job runs again; 0 or more */
  constructor(seconds: number) {
    super(`Retry in ${seconds} s`)
    if (!(seconds >= 0)) throw new TypeError(`RetryAfter: seconds must be 0 or more, not ${seconds}`)
    this.seconds = seconds
  }
}

/** The attempt has failed. The error sets the pause before the next attempt. */
export class AttemptFailed extends Error {
  override name = 'AttemptFailed'
  readonly code: string
  readonly retryAfterSeconds: number
  readonly details: readonly unknown[] | undefined

  constructor(
    code: string,
    message: string,
    retryAfterSeconds: number,
    options?: ErrorOptions & { details?: readonly unknown[] },
  ) {
    super(message, options)
    this.code = code
    this.details = options?.details
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** A payload or a result does not match the schema of its operation. */
export class SchemaMismatch extends Error {
  override name = 'SchemaMismatch'
  readonly code: 'invalid-payload' | 'invalid-result'

  /** @param mismatch the first path that does not match, and the reason */
  constructor(what: 'payload' | 'result', operation: string, mismatch: string) {
    super(`The ${what} does not match the schema of '${operation}': ${mismatch}`)
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

/** The child process or thread that performed the job ended before the job did. */
export class WorkerCrashed extends Error {
  override name = 'WorkerCrashed'
  readonly code = 'worker-crashed'
}

/** The job was canceled while it was running. */
export class JobCanceled extends Error {
  override name = 'JobCanceled'

  constructor() {
    super('The job was canceled')
  }
}

/**
 * Describes an error for storage: a code, and the message without anything that looks like a credential. A
 * {@link JobFailed} is marked as public, and keeps its status and details. Of any other error, clients see only what its
 * code means (`publicError` in monitor.ts): for a `handler-error`, the message also contains those of its causes. Leaves
 * out the stack and all other properties.
 */
export function describeError(error: unknown): JobErrorColumn {
  const isOfHandler = !(error instanceof JobFailed) && codeOf(error) === 'handler-error'
  const message = storableMessage(isOfHandler ? messageWithCauses(error) : messageOf(error, true))
  if (error instanceof AttemptFailed && error.details) {
    return { code: error.code, message, details: storableDetails(error.details) }
  }
  if (!(error instanceof JobFailed)) return { code: codeOf(error), message }
  return {
    code: error.code,
    message,
    public: true,
    ...(error.status && { status: error.status }),
    ...(error.details && { details: storableDetails(error.details) }),
  }
}

function storableDetails(details: readonly unknown[]): readonly unknown[] {
  try {
    const text = JSON.stringify(details, (name, value) => {
      if (typeof value === 'bigint') return `${value}`
      if (typeof value === 'object' && value !== null) return isSecretName(name) ? '***' : hidePairs(value)
      if (typeof value !== 'string') return value
      return isSecretName(name) ? '***' : redact(value.replaceAll('\0', ''))
    })
    return JSON.parse(text.replace(/\\(\\|u0000|ud[89a-f]..)/g, (found) => (found === '\\\\' ? found : '')))
  } catch {
    return []
  }
}

/** Replaces the values of pairs such as `{ name: 'password', value: 'x' }` and `['authorization', 'x']`. */
function hidePairs(value: object): object {
  if (Array.isArray(value)) {
    const isPair = value.length === 2 && typeof value[0] === 'string' && isSecretName(value[0])
    return isPair ? [value[0], '***'] : value
  }
  const { name, value: named } = value as { name?: unknown; value?: unknown }
  return named !== undefined && typeof name === 'string' && isSecretName(name) ? { ...value, value: '***' } : value
}

function codeOf(error: unknown): string {
  const ours = [AttemptFailed, SchemaMismatch, WorkerCrashed, DecryptionError]
  if (ours.some((type) => error instanceof type)) return (error as AttemptFailed).code
  return error instanceof AttemptTimeout ? 'attempt-timeout' : 'handler-error'
}
