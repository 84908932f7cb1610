import type { Logger } from 'pino'
import type { DatabaseSource } from '../db/database-source.ts'
import { defaultJobsPath, siteAt } from '../jobs/site.ts'
import type { Operation } from '../operation.ts'
import { isBaseUrl } from '../origins.ts'
import { createLog } from '../primitives/log.ts'
import { type Accepted, createAccepted } from './accepted.ts'
import { openCore } from './core.ts'

/** The options of `connect`. */
export interface ConnectOptions {
  /** An object that contains the operations, for example a module namespace. Other values in it are ignored. */
  operations: object
  /**
   * The URL of the Postgres database, options, or a `pg.Pool`. With a pool, its settings are used for connections of
   * our own, at most as many as it may have; `enqueue` uses the connection of your transaction.
   */
  database: DatabaseSource
  /** The URL below which clients reach the routes of the API, for links of jobs. Default: links are paths. */
  publicUrl?: string
  /** The plugin's option `routes.jobs`. Default: `/jobs`. */
  jobsPath?: string
  /** The value of ENCRYPTION_KEYS. Required if an operation seals members. */
  encryptionKeys?: string
  /** Gets the errors of background work. Default: pino to stdout. */
  log?: Pick<Logger, 'error' | 'warn' | 'debug'>
}

/** Opens the connections of `connect`. */
export async function open(operations: ReadonlyMap<string, Operation>, options: ConnectOptions): Promise<Accepted> {
  const { publicUrl, jobsPath = defaultJobsPath, log = createLog(), ...rest } = options
  if (publicUrl !== undefined && !isBaseUrl(publicUrl)) {
    throw new TypeError(
      `publicUrl must be an http or https URL without query, like https://example.com/api, not '${publicUrl}'`,
    )
  }
  const core = await openCore({ ...rest, operations, log })
  // Nothing else notifies the workers once the app's transaction has committed.
  return createAccepted(core, { site: siteAt(publicUrl ?? '', jobsPath), jobsPath, notifies: true })
}
