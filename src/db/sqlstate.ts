import { isFromPostgres } from './client.ts'

/** SQLSTATEs that are told apart here (PostgreSQL manual, appendix A). */
export const sqlstate = {
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  invalidSqlStatementName: '26000',
  duplicatePreparedStatement: '42P05',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  undefinedTable: '42P01',
  tooManyConnections: '53300',
  diskFull: '53100',
  lockNotAvailable: '55P03',
  queryCanceled: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  readOnlySqlTransaction: '25006',
  inFailedSqlTransaction: '25P02',
} as const

/** The SQLSTATE, or Node's error code, of an error or of its cause. */
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

/** The transaction lost a race and would probably win the next one: it was rolled back whole and may run again. */
export const isContention = (error: unknown): boolean => contention.includes(errorCode(error) ?? '')

// node-postgres throws some without a code.
const broken = {
  codes: [
    ...[sqlstate.adminShutdown, sqlstate.crashShutdown],
    ...['ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT'],
    ...['EHOSTUNREACH', 'EHOSTDOWN', 'ENETUNREACH', 'ENETDOWN'],
  ],
  messages: ['Connection terminated', 'Client has encountered a connection error'],
}

const away = {
  codes: [
    ...broken.codes,
    sqlstate.cannotConnectNow,
    sqlstate.tooManyConnections,
    sqlstate.diskFull,
    sqlstate.readOnlySqlTransaction,
    'ECONNREFUSED',
    'ENOTFOUND',
    'EAI_AGAIN',
  ],
  messages: [...broken.messages, 'timeout exceeded when trying to connect', 'Client was closed'],
}

// Class 08 is "Connection Exception".
function isAmong({ codes, messages }: { codes: string[]; messages: string[] }, error: unknown): boolean {
  if (!isFromPostgres(error)) return false
  const code = errorCode(error)
  if (code !== undefined) return codes.includes(code) || code.startsWith('08')
  return error instanceof Error && messages.some((message) => error.message.includes(message))
}

/** The connection broke in the middle: unless its last word was COMMIT, nothing of the transaction is there. */
export const isLostConnection = (error: unknown): boolean => isAmong(broken, error)

/** Postgres is away, full or out of connections: nobody's request or job is to blame. */
export const isOutage = (error: unknown): boolean => isAmong(away, error)
