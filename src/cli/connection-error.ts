import { isFromPostgres } from '../db/postgres-error.ts'

/** What a failed connection says about itself. */
interface ConnectionError extends Error {
  code?: string
  hostname?: string
  port?: number
  /** The failed attempts, if the host has several addresses. */
  errors?: readonly ConnectionError[]
}

const unreachable = ['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOENT', 'EPIPE', 'ETIMEDOUT']
const unknownHost = ['ENOTFOUND', 'EAI_AGAIN', 'EAI_NODATA']

/**
 * Explains why Postgres cannot be reached or refuses the connection. Returns undefined for any other error, also for one
 * of another service that the app uses.
 */
export function explainConnectionError(error: ConnectionError): string | undefined {
  const { code = '', message, hostname, port } = error.errors?.[0] ?? error
  const isOurs = isFromPostgres(error) || isDatabaseAddress(hostname, port)
  if (isOurs && unknownHost.includes(code)) {
    return `The host '${hostname}' in DATABASE_URL is unknown (${code}). Correct DATABASE_URL.`
  }
  if (isOurs && (unreachable.includes(code) || /^Connection terminated|^timeout expired/.test(message))) {
    return `Postgres does not answer at the address in DATABASE_URL (${message}). Start it, or correct DATABASE_URL.`
  }
  if (/client password must be a (?:non-empty )?string/.test(message)) {
    return 'Postgres requires a password. Set DATABASE_URL to postgres://user:password@host:5432/database.'
  }
  if (/server does not support SSL/.test(message) || (isOurs && /SSL|TLS|certificate/i.test(message))) {
    return `There is no TLS connection to Postgres: ${message}. Correct sslmode in DATABASE_URL.`
  }
  return explainRefusal(code, message)
}

/** Explains the SQLSTATE with which Postgres refuses a connection. */
function explainRefusal(code: string, message: string): string | undefined {
  const refused = `Postgres refused the connection: ${message}.`
  if (code === '28P01') return `${refused} Correct the user or the password in DATABASE_URL.`
  if (code.startsWith('28')) return `${refused} Correct the user in DATABASE_URL, or allow it in pg_hba.conf.`
  if (code === '3D000') return `${refused} Create the database, or correct its name in DATABASE_URL.`
  if (code === '53300') return `${refused} Close other connections, or raise max_connections.`
  if (code === '57P03') return `${refused} Try again when Postgres has started.`
  return undefined
}

function isDatabaseAddress(hostname: string | undefined, port: number | undefined): boolean {
  const urls = ['DATABASE_URL', 'DATABASE_LISTEN_URL'].flatMap((name) => URL.parse(process.env[name] ?? '') ?? [])
  return urls.some((url) => url.hostname === hostname || Number(url.port || 5432) === port)
}
