import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { queryOnce } from '../../support/database.ts'
import { until } from '../../support/until.ts'
import type { Load } from '../client.ts'
import { countOutcomes, findServerErrors } from '../findings.ts'
import { nothingAccepted, type Row, waitForAcknowledgements } from '../row.ts'
import { startServer } from '../server.ts'

const unavailable = '503 database-unavailable'
const countUnavailable = ({ unknownOutcomes }: Load): number => unknownOutcomes.get(unavailable) ?? 0

/** Runs a statement. Resolves to whether it succeeds. */
const succeeds = (url: string, statement: string): Promise<boolean> =>
  queryOnce(url, statement).then(
    () => true,
    () => false,
  )

const maxConnections: Row = {
  name: 'max-connections',
  summary: 'max_connections is reached. Requests are answered with 503 and Retry-After, and the API recovers.',
  workerCount: 1,
  // Enough connections for every process to start, but fewer than the pools would open.
  startServer: (directory) => startServer({ dataDir: directory, settings: { max_connections: '30' } }),
  async run(context) {
    // The pools are still small, so the load needs new connections, which Postgres refuses.
    let connections = await openAllConnections(context.databaseUrl)
    const load = context.startLoad({ connections: 20 })
    await until(() => countUnavailable(load) > 0)
    await closeAll(connections)
    await waitForAcknowledgements(load, 20)
    const rounds = context.isShort ? 1 : 5
    for (let round = 0; round < rounds; round++) {
      connections = await openAllConnections(context.databaseUrl)
      // The connections in the pools keep working. Postgres refuses only new connections.
      await waitForAcknowledgements(load, 20, 10)
      await closeAll(connections)
      await waitForAcknowledgements(load, 20)
    }
    const isAccepting = await waitForAcknowledgements(load, 20)
    await load.stop()
    return {
      faultCount: 1 + rounds,
      notes: [`${countUnavailable(load)} × 503`],
      findings: [...(isAccepting ? [] : [nothingAccepted]), ...findServerErrors(load.refusals)],
    }
  },
}

const tooManyConnections = '53300'

/** Opens connections until Postgres refuses one. */
async function openAllConnections(url: string): Promise<pg.Client[]> {
  const connections: pg.Client[] = []
  for (;;) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    try {
      await client.connect()
      connections.push(client)
    } catch (error) {
      if ((error as { code?: string }).code !== tooManyConnections) throw error
      return connections
    }
  }
}

const closeAll = (connections: readonly pg.Client[]) =>
  Promise.all(connections.map((client) => client.end().catch(() => {})))

const poolExhausted: Row = {
  name: 'pool-exhausted',
  summary:
    'A table lock blocks every connection of the pools. Requests are answered with 503 and Retry-After, and the API recovers.',
  async run(context) {
    const load = context.startLoad({ connections: 40 })
    await waitForAcknowledgements(load, 20)
    const rounds = context.isShort ? 1 : 3
    const locker = new pg.Client({ connectionString: context.databaseUrl })
    await locker.connect()
    try {
      for (let round = 0; round < rounds; round++) {
        await locker.query('begin; lock table domain in access exclusive mode')
        await until(() => countUnavailable(load) > round * 40)
        await locker.query('rollback')
        await waitForAcknowledgements(load, 20)
      }
    } finally {
      await locker.end()
    }
    const isAccepting = await waitForAcknowledgements(load, 20)
    await load.stop()
    return {
      faultCount: rounds,
      notes: [`${countUnavailable(load)} × 503`],
      findings: [...(isAccepting ? [] : [nothingAccepted]), ...findServerErrors(load.refusals)],
    }
  },
}

const diskSizeMiB = 400

const diskFull: Row = {
  name: 'disk-full',
  summary:
    'The disk is full, so Postgres refuses writes (53100) or panics because it cannot write WAL. Then there is space again. Every 202 has its job.',
  async startServer(directory) {
    if (process.getuid?.() !== 0) throw new Error('The row disk-full mounts a small disk and has to run as root')
    // The directory has a new name, because the mount of an earlier run may still be busy.
    const dataDir = join(directory, `disk-${randomBytes(4).toString('hex')}`)
    await mkdir(dataDir)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskSizeMiB}m,mode=755`, 'tmpfs', dataDir])
    try {
      await chmod(dataDir, 0o755)
      const settings = { min_wal_size: '32MB', max_wal_size: '48MB', checkpoint_timeout: '30s' }
      const server = await startServer({ dataDir, settings })
      return {
        ...server,
        async close() {
          await server.close()
          execFileSync('umount', ['-l', dataDir])
        },
      }
    } catch (error) {
      execFileSync('umount', ['-l', dataDir])
      throw error
    }
  },
  async run(context) {
    const { server, databaseUrl } = context
    // Large rows that do not compress fill the disk sooner.
    const load = context.startLoad({ body: { filler: randomBytes(15_000).toString('base64') } })
    const ballast = join(server.dataDir, 'ballast')
    let refusedWrites = 0
    let panics = 0
    let isStuck = false
    const rounds = context.isShort ? 2 : 6
    for (let round = 0; round < rounds && !isStuck; round++) {
      await waitForAcknowledgements(load, 20)
      fillDisk(ballast)
      if (round % 2 === 0) {
        await until(async () => !(await canWriteData(databaseUrl)) && hasFailedRequests(load))
        refusedWrites += 1
      } else {
        await until(async () => !(await canWriteWal(databaseUrl)))
        panics += 1
      }
      await rm(ballast)
      // Recovery needs space for WAL too. If the disk was full, the server has exited and must be restarted.
      await until(async () => (await succeeds(databaseUrl, 'select')) || (await tryRestart(server)))
      isStuck = !(await waitForAcknowledgements(load, 20))
    }
    await load.stop()
    return {
      faultCount: refusedWrites + panics,
      notes: [
        `${refusedWrites} × disk full for data`,
        `${panics} × PANIC`,
        ...countOutcomes(load.unknownOutcomes, load.refusals),
      ],
      findings: [...(isStuck ? [nothingAccepted] : []), ...findServerErrors(load.refusals)],
    }
  },
}

/** Writes a file until the disk is full. */
function fillDisk(path: string): void {
  try {
    execFileSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=64k'], { stdio: 'ignore' })
  } catch {
    // dd exits with an error when the disk is full.
  }
}

const tryRestart = (server: { restart(): Promise<void> }): Promise<boolean> =>
  server.restart().then(
    () => true,
    () => false,
  )

/** Returns false if the disk is full (error 53100) or the server is down. */
const canWriteData = (url: string): Promise<boolean> =>
  succeeds(url, "create temp table filler as select repeat('x', 1000) from generate_series(1, 1000)")

const hasFailedRequests = ({ unknownOutcomes, refusals }: Load): boolean => unknownOutcomes.size + refusals.size > 0

/** Starts a new WAL segment. If there is no space for it, the server panics. */
const canWriteWal = (url: string): Promise<boolean> =>
  succeeds(url, "select pg_switch_wal() from pg_logical_emit_message(true, 'fault', 'x')")

export const limits = [maxConnections, poolExhausted, diskFull]
