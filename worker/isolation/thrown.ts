import type { JobErrorColumn } from '../../src/db/tables.ts'
import { type SerializedError, serializeError, toError } from '../../src/primitives/redact.ts'
import { describeError, JobFailed, RetryAfter } from '../errors.ts'

/** A serialized error, or another value that was thrown. */
export type Thrown =
  | { kind: 'JobFailed'; error: JobErrorColumn; stack: string }
  | { kind: 'RetryAfter'; seconds: number }
  | { kind: 'Error'; error: SerializedError }
  | { kind: 'other'; value: string | undefined }

/** Makes a value that a handler has thrown in a child ready to be sent to the worker. */
export function serializeThrown(error: unknown): Thrown {
  if (error instanceof JobFailed) {
    return { kind: 'JobFailed', error: describeError(error), stack: serializeError(error).stack }
  }
  if (error instanceof RetryAfter) return { kind: 'RetryAfter', seconds: error.seconds }
  if (error instanceof Error) return { kind: 'Error', error: serializeError(error) }
  return { kind: 'other', value: typeof error === 'string' ? error : undefined }
}

/** Restores what a handler has thrown in a child, for the worker. */
export function deserializeThrown(thrown: Thrown): unknown {
  switch (thrown.kind) {
    case 'JobFailed': {
      const { code, message, status, details } = thrown.error
      const options = { ...(status && { status }), ...(details && { details }) }
      return Object.assign(new JobFailed(code, message, options), { stack: thrown.stack })
    }
    case 'RetryAfter':
      return new RetryAfter(thrown.seconds)
    case 'Error':
      return toError(thrown.error)
    case 'other':
      return thrown.value
  }
}
