import { withCauses } from '../primitives/thrown.ts'
import { isConnectError, isFromPostgres, isMarkedStale } from './postgres-error.ts'

/** The SQLSTATEs that this code handles (PostgreSQL manual, appendix A). */
export const sqlstate = {
  featureNotSupported: '0A000',
  numericValueOutOfRange: '22003',
  invalidDatetimeFormat: '22007',
  datetimeFieldOverflow: '22008',
  invalidParameterValue: '22023',
  invalidTextRepresentation: '22P02',
  invalidSqlStatementName: '26000',
  duplicatePreparedStatement: '42P05',
  uniqueViolation: '23505',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  checkViolation: '23514',
  undefinedFunction: '42883',
  datatypeMismatch: '42804',
  cannotCoerce: '42846',
  insufficientPrivilege: '42501',
  undefinedObject: '42704',
  undefinedTable: '42P01',
  noDataFound: 'P0002',
  objectNotInPrerequisiteState: '55000',
  internalError: 'XX000',
  insufficientResources: '53000',
  diskFull: '53100',
  outOfMemory: '53200',
  tooManyConnections: '53300',
  configurationLimitExceeded: '53400',
  lockNotAvailable: '55P03',
  queryCanceled: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  databaseDropped: '57P04',
  idleSessionTimeout: '57P05',
  activeSqlTransaction: '25001',
  readOnlySqlTransaction: '25006',
  idleInTransactionSessionTimeout: '25P03',
  transactionTimeout: '25P04',
  inFailedSqlTransaction: '25P02',
  ioError: '58030',
  divisionByZero: '22012',
} as const

/** Returns the SQLSTATE or Node error code of an error. If the error has no code, returns the code of its cause. */
export function errorCode(error: unknown): string | undefined {
  for (const current of withCauses(error)) {
    if ('code' in current && typeof current.code === 'string') return current.code
  }
  return undefined
}

const contention: readonly string[] = [
  sqlstate.serializationFailure,
  sqlstate.deadlockDetected,
  sqlstate.lockNotAvailable,
  // Also the memory for locks. It is not an outage, because a single statement may need too much.
  sqlstate.outOfMemory,
]

/** Errors that Postgres gives when the type of a column or a function is no longer that of a prepared parameter. */
const typeErrors: readonly (string | undefined)[] = [
  ...[sqlstate.datatypeMismatch, sqlstate.undefinedFunction, sqlstate.cannotCoerce],
  // The value does not fit the old type.
  ...[sqlstate.numericValueOutOfRange, sqlstate.invalidTextRepresentation],
  ...[sqlstate.invalidDatetimeFormat, sqlstate.datetimeFieldOverflow],
  // The old type was dropped.
  sqlstate.internalError,
]

/**
 * Whether the error can come from a statement whose parameters keep the types for which it was prepared. Other causes
 * are possible, for example a wrong value.
 */
export const mayBeStaleType = (error: unknown): boolean => typeErrors.includes(errorCode(error))

/**
 * Whether a PL/pgSQL function fails because DDL changed a type after the session compiled it. Only a new session compiles
 * it again.
 */
export const isStaleFunction = (error: unknown): boolean =>
  errorCode(error) === sqlstate.datatypeMismatch && `${fieldOf(error, 'routine')}`.startsWith('plpgsql_')

/**
 * Whether a prepared statement or a function no longer works. The reason is that DDL has changed its result or a type,
 * or that a pooler has switched to another session. Postgres has not run the statement. Our clients prepare it again at
 * its next use.
 */
export function isStalePlan(error: unknown): boolean {
  if (isMarkedStale(error)) return true
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
  for (const current of withCauses(error)) {
    if (name in current) return (current as Error & Record<typeof name, unknown>)[name]
  }
  return undefined
}

/**
 * Whether Postgres has rejected one of our rows because a partition was created or replaced while the statement ran.
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
    ...[sqlstate.adminShutdown, sqlstate.crashShutdown, sqlstate.databaseDropped, sqlstate.idleSessionTimeout],
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
    sqlstate.insufficientResources,
    sqlstate.diskFull,
    sqlstate.ioError,
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

/**
 * Whether Postgres is unreachable, read-only, full or out of connections, so that any request or job would fail. It also
 * counts as unreachable when it refuses a connection, for example because a DBA has changed a password.
 */
export const isOutage = (error: unknown): boolean => isOfKind(outage, error) || isConnectError(error)
