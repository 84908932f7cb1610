import type pg from 'pg'
import { withoutApplicationName } from './application-name.ts'
import type { DatabaseOptions } from './database.ts'
import { apiPoolSize } from './pool-sizes.ts'

/** How an app names its database: a URL, options, or its own pool, whose settings lead to the server. */
export type DatabaseSource = string | DatabaseOptions | pg.Pool

const isPool = (source: DatabaseSource): source is pg.Pool => typeof source === 'object' && 'totalCount' in source

/**
 * Returns the options of the pool that we open. We take no connections from the app's own pool: ours pin the settings
 * of the session and the type parsers that our statements depend on.
 */
export function optionsOf(source: DatabaseSource): DatabaseOptions & { server?: pg.ClientConfig } {
  if (typeof source === 'string') return { url: source }
  if (!isPool(source)) return source
  // pg hides the password and the key of TLS from `Object.keys`, so they are copied by name.
  const { connectionString, host, port, user, password, database, ssl, sslnegotiation, enableChannelBinding } =
    source.options
  const { stream, options, max } = source.options
  const given = { connectionString: connectionString && withoutApplicationName(connectionString), host, port, user }
  const server = { ...given, password, database, ssl, sslnegotiation, enableChannelBinding, stream, options }
  const isDefined = ([, value]: [string, unknown]) => value !== undefined
  return {
    url: connectionString ?? '',
    server: Object.fromEntries(Object.entries(server).filter(isDefined)),
    poolSize: Math.min(max, apiPoolSize),
  }
}
