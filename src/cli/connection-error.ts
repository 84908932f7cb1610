import { isConnectError, isFromPostgres } from '../db/postgres-error.ts'
import { sqlstate } from '../db/sqlstate.ts'

/** What a failed connection says about itself. */
interface ConnectionError extends Error {
  code?: string
  hostname?: string
  port?: number
  path?: string
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
  const { code = '', message, hostname, port, path } = error.errors?.[0] ?? error
  if (path && urlsOfDatabase().some((url) => [...url.searchParams.values()].includes(path))) {
    return `The file ${path} in DATABASE_URL cannot be read (${code}). Correct its path.`
  }
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
  if (/^received invalid response/.test(message)) {
    return 'The server at the address in DATABASE_URL is not Postgres. Correct the host or the port in DATABASE_URL.'
  }
  if (
    isFromPostgres(error) &&
    /^(?:schema "accepted"|(?:function|relation) "?accepted\.[^"]*"?) does not exist$/.test(message)
  ) {
    return `The database is not migrated to this release: ${message}. Run \`accepted migrate\`, or correct DATABASE_URL.`
  }
  const advice = adviceFor(code, message) ?? (isConnectError(error) ? 'Correct DATABASE_URL.' : undefined)
  if (advice) return `Postgres refused the connection: ${message}. ${advice}`
  // The role of the API and the workers may be another one than the role that migrates.
  if (code !== sqlstate.insufficientPrivilege || !isFromPostgres(error)) return undefined
  return (
    `Postgres refused access: ${message}. Connect as the role that runs \`accepted migrate\`, or grant the role in ` +
    'DATABASE_URL access to the schemas accepted and accepted_queue.'
  )
}

/** Says what to do about the SQLSTATE with which Postgres refuses a connection. */
function adviceFor(code: string, message: string): string | undefined {
  if (/is not permitted to log in$/.test(message)) return 'Give the role LOGIN, or correct the user in DATABASE_URL.'
  if (code === '28P01') return 'Correct the user or the password in DATABASE_URL.'
  if (code.startsWith('28')) return 'Correct the user in DATABASE_URL, or allow it in pg_hba.conf.'
  if (code === '3D000') return 'Create the database, or correct its name in DATABASE_URL.'
  if (/is not currently accepting connections$/.test(message))
    return 'Correct the name of the database in DATABASE_URL.'
  if (/^permission denied for database "/.test(message)) return 'Grant the role CONNECT on the database.'
  if (code === '53300' && / for (?:role|database) "/.test(message)) {
    return 'Close other connections, or raise the connection limit.'
  }
  if (code === '53300') return 'Close other connections, or raise max_connections.'
  if (code === '57P03') return 'Try again when Postgres has started.'
  return undefined
}

const urlsOfDatabase = () =>
  ['DATABASE_URL', 'DATABASE_LISTEN_URL'].flatMap((name) => URL.parse(process.env[name] ?? '') ?? [])

const isDatabaseAddress = (hostname: string | undefined, port: number | undefined): boolean =>
  urlsOfDatabase().some((url) => url.hostname === hostname || Number(url.port || 5432) === port)
