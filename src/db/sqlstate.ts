import { isFromPostgres } from './postgres-error.ts'

/** The SQLSTATEs that this code handles (PostgreSQL manual, appendix A). */
export const sqlstate = {
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  invalidSqlStatementName: '26000',
  duplicatePreparedStatement: '42P05',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  checkViolation: '23514',
  undefinedTable: '42P01',
  tooManyConnections: '53300',
  diskFull: '53100',
  lockNotAvailable: '55P03',
  queryCanceled: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  idleSessionTimeout: '57P05',
  readOnlySqlTransaction: '25006',
  idleInTransactionSessionTimeout: '25P03',
  transactionTimeout: '25P04',
  inFailedSqlTransaction: '25P02',
} as const

/** Returns the SQLSTATE or Node error code of an error. If the error has no code, returns the code of its cause. */
export function errorCode(error: unknown): string | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    if ('code' in current && typeof current.code === 'string') return current.code
  }
  return undefined
}

const contention: readonly string[] = [
  sqlstate.serializationFailure,
  sqlstate.deadlockDetected,
  sqlstate.lockNotAvailable,
]

/**
 * Whether the prepared statement no longer works. The reason is that DDL has changed its result, or that a pooler has
 * switched to another session. Postgres has not run the statement. Our clients prepare it again at its next use.
 */
export function isStalePlan(error: unknown): boolean {
  const code = errorCode(error)
  if (code === sqlstate.featureNotSupported) {
    // Postgres uses this code for many errors. This routine raises it only for a cached plan whose result type has
    // changed.
    return fieldOf(error, 'routine') === 'RevalidateCachedQuery'
  }
  const isForeign = code === sqlstate.invalidSqlStatementName || code === sqlstate.duplicatePreparedStatement
  return isForeign && isFromPostgres(error)
}

/** Returns a field of the error that Postgres has sent: of the error itself, or of its cause. */
function fieldOf(error: unknown, name: 'routine' | 'schema' | 'constraint'): unknown {
  for (let current = error; current instanceof Error; current = current.cause) {
    if (name in current) return (current as Error & Record<typeof name, unknown>)[name]
  }
  return undefined
}

/**
 * Whether a row of ours no longer belongs into the partition that Postgres had chosen for it, because a partition was
 * created or replaced in the meantime.
 */
const isPartitionChange = (error: unknown): boolean =>
  errorCode(error) === sqlstate.checkViolation &&
  fieldOf(error, 'schema') === 'accepted' &&
  (fieldOf(error, 'routine') === 'ExecPartitionCheckEmitError' || fieldOf(error, 'constraint') === 'job_default_range')

const transactionTimeouts: readonly string[] = [sqlstate.idleInTransactionSessionTimeout, sqlstate.transactionTimeout]

/**
 * Whether Postgres has closed the connection because its transaction took too long or was idle for too long. The next
 * run may take as long, so this is not an outage, which is retried without limit.
 */
const isTransactionTimeout = (error: unknown): boolean =>
  transactionTimeouts.includes(errorCode(error) ?? '') && isFromPostgres(error)

/**
 * Whether concurrent transactions, DDL or a time limit for transactions caused the error. The transaction was rolled
 * back, and a retry will probably succeed.
 */
export const isContention = (error: unknown): boolean =>
  contention.includes(errorCode(error) ?? '') ||
  isStalePlan(error) ||
  isPartitionChange(error) ||
  isTransactionTimeout(error)

interface ErrorKind {
  codes: readonly string[]
  /** Parts of error messages, because node-postgres throws some errors without a code. */
  messages: readonly string[]
}

const lostConnection: ErrorKind = {
  codes: [
    ...[sqlstate.adminShutdown, sqlstate.crashShutdown, sqlstate.idleSessionTimeout],
    ...['ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT'],
    ...['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'],
  ],
  messages: ['Connection terminated', 'Client has encountered a connection error'],
}

const outage: ErrorKind = {
  codes: [
    ...lostConnection.codes,
    sqlstate.cannotConnectNow,
    sqlstate.tooManyConnections,
    sqlstate.diskFull,
    sqlstate.readOnlySqlTransaction,
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
  ],
  messages: [
    ...lostConnection.messages,
    'timeout exceeded when trying to connect',
    'timeout expired',
    'Query read timeout',
    'Client was closed',
  ],
}

function isOfKind({ codes, messages }: ErrorKind, error: unknown): boolean {
  if (!isFromPostgres(error)) return false
  const code = errorCode(error)
  // Class 08 is "Connection Exception".
  if (code !== undefined) return codes.includes(code) || code.startsWith('08')
  return error instanceof Error && messages.some((message) => error.message.includes(message))
}

/**
 * Whether the connection broke while a statement was in progress. The transaction was rolled back, unless the statement
 * was COMMIT. The outcome of a COMMIT is then unknown.
 */
export const isLostConnection = (error: unknown): boolean => isOfKind(lostConnection, error)

/**
 * Whether the server has refused a write because it is read-only. The transaction was rolled back. The pool then
 * replaces its connections, because a new connection may lead to another server.
 */
export const isReadOnlyServer = (error: unknown): boolean =>
  isFromPostgres(error) && errorCode(error) === sqlstate.readOnlySqlTransaction

/** Whether Postgres is unreachable, read-only, full or out of connections, so that any request or job would fail. */
export const isOutage = (error: unknown): boolean => isOfKind(outage, error)
