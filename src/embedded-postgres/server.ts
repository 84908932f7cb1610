import { join, resolve as resolvePath } from 'node:path'
import pg from 'pg'
import { ensureCluster, readPassword } from './cluster.ts'
import { lockDataDir, unlockDataDir } from './data-dir-lock.ts'
import { explain } from './embedded-postgres-error.ts'
import { findInstallLocation, type InstallLocation } from './install-location.ts'
import {
  findPostmaster,
  logFile,
  type PostmasterOptions,
  type StopMode,
  startPostmaster,
  stopPostmaster,
} from './postmaster.ts'

/** A running Postgres that this process has started. */
export interface EmbeddedPostgres {
  /** Contains the user and the password. */
  url: string
  /**
   * The data directory in use. It differs from the requested directory if the server's user cannot enter the requested
   * directory.
   */
  dataDir: string
  logFile: string
  port: number
  pid: number
  isRunning(): Promise<boolean>
  /** Stops the server. The default mode is `fast`. Does nothing if the server has already stopped. */
  stop(mode?: StopMode): Promise<void>
}

export interface EmbeddedPostgresOptions extends PostmasterOptions {
  /** The data directory. The cluster is in `<dataDir>/postgres`, and is created on first use. */
  dataDir: string
  /** The name of the database, which is created if it is missing. Default `accepted`. */
  database?: string
}

/**
 * Starts a real Postgres from an npm package. The server runs in a session of its own, so that Ctrl-C in the terminal
 * does not reach it. If this process runs as root, the server runs as the user `postgres`, because Postgres refuses to
 * run as root.
 *
 * @throws EmbeddedPostgresError with a message that says what to do
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  let dataDir = resolvePath(options.dataDir)
  try {
    const location = await findInstallLocation(dataDir)
    dataDir = location.dataDir
    const cluster = join(dataDir, 'postgres')
    await lockDataDir(location, cluster)
    try {
      await ensureCluster(location, cluster)
      const password = await readPassword(cluster)
      const port = await startPostmaster(location, cluster, options)
      return await openServer(location, cluster, { port, password, database: options.database ?? 'accepted' })
    } catch (error) {
      await unlockDataDir(location)
      throw error
    }
  } catch (error) {
    throw explain(error, dataDir)
  }
}

/** Creates the database on the started server. Stops the server if this fails. */
async function openServer(
  location: InstallLocation,
  cluster: string,
  { port, password, database }: { port: number; password: string; database: string },
): Promise<EmbeddedPostgres> {
  const pid = await findPostmaster(cluster)
  if (!pid) throw new Error('it exited right after its start')
  // A different pid means that another process has started a server in the meantime.
  const isRunning = async () => (await findPostmaster(cluster)) === pid
  const stop = async (mode: StopMode = 'fast') => {
    if (await isRunning()) await stopPostmaster(location, cluster, pid, mode)
    await unlockDataDir(location)
  }
  try {
    const urlOf = (name: string) => `postgres://postgres:${password}@127.0.0.1:${port}/${encodeURIComponent(name)}`
    await ensureDatabase(urlOf('postgres'), database)
    return { url: urlOf(database), dataDir: location.dataDir, logFile: logFile(cluster), port, pid, isRunning, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function ensureDatabase(url: string, name: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query('select from pg_database where datname = $1', [name])
    if (rows.length === 0) await client.query(`create database ${client.escapeIdentifier(name)}`)
  } finally {
    await client.end()
  }
}
