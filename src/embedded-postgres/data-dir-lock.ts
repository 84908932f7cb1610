import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readIfPresent } from './cluster.ts'
import { clusterInUse } from './embedded-postgres-error.ts'
import type { InstallLocation } from './install-location.ts'
import { findPostmaster, stopPostmaster } from './postmaster.ts'
import { processStartTime } from './process.ts'

/**
 * Returns the path of the file with the pid and the start time of the starter. The starter is the process that has
 * started the server. When the starter exits, it stops the server.
 */
const starterFile = ({ dataDir }: InstallLocation) => join(dataDir, 'starter.pid')

/**
 * Reserves the data directory for this process. If a server is still running although its starter was killed, stops the
 * server.
 *
 * @throws EmbeddedPostgresError when a live process uses the directory
 */
export async function lockDataDir(location: InstallLocation, cluster: string): Promise<void> {
  const file = starterFile(location)
  const starter = await readIfPresent(file)
  const postmaster = await findPostmaster(cluster)
  if (starter === undefined || (await isAlive(starter))) {
    if (postmaster) throw clusterInUse(cluster, `the Postgres with pid ${postmaster}`, `\`kill -INT ${postmaster}\``)
    const pid = Number.parseInt(starter ?? '', 10)
    if (pid) throw clusterInUse(cluster, `the process with pid ${pid}`, `\`kill ${pid}\``)
  }
  const ownFile = `${file}.${randomBytes(4).toString('hex')}`
  await writeFile(ownFile, `${process.pid} ${await processStartTime(process.pid)}`)
  try {
    // Only one process can create the link. Two processes can replace the file of a killed starter at the same time.
    // Then the start of the second Postgres fails.
    await (starter === undefined ? link : rename)(ownFile, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return lockDataDir(location, cluster)
    throw error
  } finally {
    await rm(ownFile, { force: true })
  }
  if (postmaster) await stopPostmaster(location, cluster, postmaster, 'fast')
}

/** Ends the reservation of the data directory, unless another process has reserved it since. */
export async function unlockDataDir(location: InstallLocation): Promise<void> {
  const starter = await readFile(starterFile(location), 'utf8').catch(() => '')
  if (Number.parseInt(starter, 10) === process.pid) await rm(starterFile(location), { force: true })
}

/** Returns whether the process of a starter file is still running. */
async function isAlive(starter: string): Promise<boolean> {
  const [pid, startTime] = starter.split(' ')
  return startTime !== undefined && startTime === (await processStartTime(Number(pid)))
}
