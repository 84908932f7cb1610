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

/** Whether an error, or its cause, came from Postgres or from a connection to it. */
export function isFromPostgres(error: unknown): boolean {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (postgresErrors.has(current)) return true
  }
  return false
}
