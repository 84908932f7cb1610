import type { DatabaseSource } from '../db/database-source.ts'
import type { Authenticate } from '../identity.ts'
import type { RateLimit } from './protocol/quota.ts'
import type { RoutePaths } from './route-paths.ts'

/** The options of the plugin. */
export interface AcceptedOptions {
  /** An object that contains the operations, for example a module namespace. Other values in it are ignored. */
  operations: object
  /** The URL of the Postgres database, connection options, or a `pg.Pool` whose settings lead to the database. */
  database: DatabaseSource
  /**
   * Identifies the caller. Default: API keys. Until the first key exists, a caller on this machine without a key is
   * `anonymous`.
   */
  authenticate?: Authenticate
  /** Until the first key exists, callers on other machines are `anonymous` too. Default: false, they get 401. */
  allowAnonymous?: boolean
  /**
   * The URL at which clients reach the app, for links in responses. It may have a path that a proxy removes. Default: the
   * origin that the client called. The prefix of the plugin's routes is appended to it.
   */
  publicUrl?: string
  /** The prefix of all routes of the plugin, for example `/api`. Default: the prefix of the surrounding scope. */
  prefix?: string
  /**
   * The paths of the plugin's own routes. Default: no routes for docs, metrics and health. A string is ignored, because
   * in a configuration file, `routes` is the path of the module with the app's own routes.
   */
  routes?: Partial<RoutePaths> | string
  /**
   * The value of ENCRYPTION_KEYS: keys for the members that operations seal and for the signing secrets of webhooks, as
   * `<id>:<base64 of 32 bytes>`, separated by commas. The first key encrypts. Required if an operation seals members.
   * Without keys, signing secrets are stored in clear.
   */
  encryptionKeys?: string
  /**
   * Maximum number of requests of a principal, counted by each process. Further requests get 429. A tenth of this number
   * limits requests for unknown jobs, and failed authentications of an address. Default: 60,000 in 60 seconds. `false`
   * removes these limits.
   */
  rateLimit?: RateLimit | false
  /**
   * Origins whose pages may read the answers, like `https://app.example.com`, or `*` for any. Cookies are never allowed.
   * Pages of a listed origin may also open WebSockets. Default: none.
   */
  corsOrigins?: readonly string[]
  /**
   * The value of METRICS_TOKEN, with which Prometheus reads the metrics. Default: none. The metrics then need a scope, or a
   * request from this machine.
   */
  metricsToken?: string
  /**
   * Maximum number of event streams, WebSockets and waiting requests that a principal may have open at each process.
   * Default: 5,000. `false` for any number.
   */
  openLimit?: number | false
}
