import { chmod, mkdtemp, rm, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './server.ts'

const minMemoryBytes = 4 * 2 ** 30

/** Chooses the memory file system if it has enough space. It is faster, and test databases need not survive a crash. */
async function chooseParentDirectory(): Promise<string> {
  const memory = '/dev/shm'
  const { bavail, bsize } = await statfs(memory).catch(() => ({ bavail: 0, bsize: 0 }))
  return bavail * bsize > minMemoryBytes ? memory : tmpdir()
}

/**
 * Creates the data directory of a temporary server.
 *
 * @param prefix the beginning of its name
 */
export async function createTemporaryDataDir(prefix: string): Promise<string> {
  const dataDir = await mkdtemp(join(await chooseParentDirectory(), prefix))
  // When root runs the tests, Postgres runs as another user. That user needs access.
  await chmod(dataDir, 0o755)
  return dataDir
}

/** So many connections suffice for the pools of all tests that run at the same time. */
export const maxTestConnections = 400

/** Starts a server for tests: it is fast, and loses its data in a crash of the machine. */
export const startTestPostgres = (dataDir: string, database: string): Promise<EmbeddedPostgres> =>
  startEmbeddedPostgres({
    dataDir,
    database,
    settings: {
      max_connections: String(maxTestConnections),
      // Each new database causes checkpoints, and after a checkpoint Postgres writes whole pages to the WAL.
      ...{ fsync: 'off', full_page_writes: 'off' },
      // The tests open thousands of connections, and hashing the password takes a third of the time of each.
      scram_iterations: '1',
    },
  })

/** Stops a temporary server and removes its data. */
export async function removeTemporaryServer({ stop }: EmbeddedPostgres, dataDir: string): Promise<void> {
  await stop('immediate')
  await rm(dataDir, { recursive: true, force: true })
}
