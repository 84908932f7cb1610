import { withCauses } from '../primitives/thrown.ts'

/**
 * Errors that came from Postgres or from a connection to it. The error code is not enough to recognize them, because
 * errors of an app's other services can have the same code.
 */
const postgresErrors = new WeakSet<object>()

/** Records that an error came from Postgres, and returns it. */
export function markPostgresError<Thrown>(error: Thrown): Thrown {
  if (typeof error === 'object' && error !== null) postgresErrors.add(error)
  return error
}

/** Errors of connections that could not be opened. */
const connectErrors = new WeakSet<object>()

/** Records that no connection could be opened, whatever the reason. Returns the error. */
export function markConnectError<Thrown>(error: Thrown): Thrown {
  if (typeof error === 'object' && error !== null) connectErrors.add(error)
  return markPostgresError(error)
}

/** Errors of statements or functions that were prepared before DDL changed a type. */
const staleErrors = new WeakSet<object>()

/** Records that the statement may work once it is prepared again. Returns the error. */
export function markStaleError<Thrown>(error: Thrown): Thrown {
  if (typeof error === 'object' && error !== null) staleErrors.add(error)
  return error
}

/** Errors of connections that broke while no statement was in progress. */
const idleErrors = new WeakSet<object>()

/** Records that a connection broke while it was idle, which harms no request and no job. Returns the error. */
export function markIdleError<Thrown extends object>(error: Thrown): Thrown {
  idleErrors.add(error)
  return markPostgresError(error)
}

/** Whether a connection broke while it was idle. */
export const isIdleError = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && idleErrors.has(error)

function isMarked(marked: WeakSet<object>, error: unknown): boolean {
  return withCauses(error).some((current) => marked.has(current))
}

/** Whether an error, or its cause, came from Postgres or from a connection to it. */
export const isFromPostgres = (error: unknown): boolean => isMarked(postgresErrors, error)

/** Whether an error, or its cause, was given to {@link markStaleError}. */
export const isMarkedStale = (error: unknown): boolean => isMarked(staleErrors, error)

/** Whether an error, or its cause, is that no connection could be opened. */
export const isConnectError = (error: unknown): boolean => isMarked(connectErrors, error)
