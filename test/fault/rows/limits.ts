import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { until } from '../../support/until.ts'
import type { Load } from '../client.ts'
import { query, startServer } from '../server.ts'
import { acknowledgedMore, type Row } from '../stage.ts'
import { unanswered } from './postgres.ts'

const connections: Row = {
  name: 'max-connections',
  summary: 'max_connections is reached: 503 with Retry-After, and it recovers',
  workers: 1,
  // Enough for all of them to start; less than their pools want, and then others take what is left.
  server: (directory) => startServer({ dataDir: directory, settings: { max_connections: '30' } }),
  async story(stage) {
    // As long as the pools are small, requests want connections that there are not.
    const first = await hog(stage.databaseUrl)
    const load = stage.load({ connections: 20 })
    await until(() => load.unknowns.get('503 database-unavailable'))
    await Promise.all(first.hogs.map((client) => client.end().catch(() => {})))
    await acknowledgedMore(load, 20)
    let faults = first.refused
    for (let round = 0; round < (stage.short ? 1 : 5); round++) {
      const { hogs, refused } = await hog(stage.databaseUrl)
      faults += refused
      // Those in the pools go on; whoever wants another one is refused.
      await acknowledgedMore(load, 20, 10)
      await Promise.all(hogs.map((client) => client.end().catch(() => {})))
      await acknowledgedMore(load, 20)
    }
    const back = await acknowledgedMore(load, 20)
    await load.stop()
    return {
      faults,
      notes: [`${load.unknowns.get('503 database-unavailable')} × 503`],
      findings: [...(back ? [] : ['Nothing was accepted any more']), ...unanswered(load.refusals)],
    }
  },
}

/** Takes connections until there are none. */
async function hog(url: string): Promise<{ hogs: pg.Client[]; refused: number }> {
  const hogs: pg.Client[] = []
  for (;;) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    try {
      await client.connect()
      hogs.push(client)
    } catch (error) {
      if ((error as { code?: string }).code !== '53300') throw error
      return { hogs, refused: 1 }
    }
  }
}

const pool: Row = {
  name: 'pool-exhausted',
  summary: 'every connection of the pools is stuck behind a lock: 503 with Retry-After, bounded, and it recovers',
  async story(stage) {
    const load = stage.load({ connections: 40 })
    await acknowledgedMore(load, 20)
    const locker = new pg.Client({ connectionString: stage.databaseUrl })
    await locker.connect()
    try {
      for (let round = 0; round < (stage.short ? 1 : 3); round++) {
        await locker.query('begin; lock table domain in access exclusive mode')
        await until(() => (load.unknowns.get('503 database-unavailable') ?? 0) > round * 40)
        await locker.query('rollback')
        await acknowledgedMore(load, 20)
      }
    } finally {
      await locker.end()
    }
    const back = await acknowledgedMore(load, 20)
    await load.stop()
    const notes = [`${load.unknowns.get('503 database-unavailable')} × 503`]
    return {
      faults: stage.short ? 1 : 3,
      notes,
      findings: [...(back ? [] : ['Nothing was accepted any more']), ...unanswered(load.refusals)],
    }
  },
}

const diskSize = 400

const disk: Row = {
  name: 'disk-full',
  summary: 'the disk is full (53100 for data, a PANIC for WAL), and has room again: no false 202',
  async server(directory) {
    if (process.getuid?.() !== 0)
      throw new Error('To mount a small disk takes root: run this row as root, or leave it out')
    // Named anew, for what is mounted under a name of an earlier run may still be busy.
    const dataDir = join(directory, `disk-${randomBytes(4).toString('hex')}`)
    await mkdir(dataDir)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${diskSize}m,mode=755`, 'tmpfs', dataDir])
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
  async story(stage) {
    const { server } = stage
    // Longer rows, that do not compress, fill it sooner.
    const load = stage.load({ body: { filler: randomBytes(15_000).toString('base64') } })
    const ballast = join(server.dataDir, 'ballast')
    let refused = 0
    let panics = 0
    let stuck = false
    for (let round = 0; round < (stage.short ? 2 : 6) && !stuck; round++) {
      await acknowledgedMore(load, 20)
      fill(ballast)
      if (round % 2 === 0) {
        await until(async () => (await isDataRefused(stage.databaseUrl)) && isRefusedToClients(load))
        refused += 1
      } else {
        await until(async () => !(await writeWal(stage.databaseUrl)))
        panics += 1
      }
      await rm(ballast)
      // Recovery wants room for WAL as well, and a server that finds none gives up.
      await until(() =>
        isUp(stage.databaseUrl).then(
          (up) =>
            up ||
            server.restart().then(
              () => true,
              () => false,
            ),
        ),
      )
      stuck = !(await acknowledgedMore(load, 20))
    }
    await load.stop()
    return {
      faults: refused + panics,
      notes: [
        ...[`${refused} × full for data`, `${panics} × PANIC`],
        ...[...load.unknowns, ...load.refusals].map(([why, count]) => `${count} × ${why}`),
      ],
      findings: [...(stuck ? ['Nothing was accepted any more'] : []), ...unanswered(load.refusals)],
    }
  },
}

/** Writes until there is no room. */
function fill(path: string): void {
  try {
    execFileSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=64k'], { stdio: 'ignore' })
  } catch {
    // It fails when the disk is full, and so it should.
  }
}

/** Whether a write of data gets 53100, or meets a server that has gone down. */
const isDataRefused = (url: string): Promise<boolean> =>
  query(url, "create temp table filler as select repeat('x', 1000) from generate_series(1, 1000)").then(
    () => false,
    () => true,
  )

const isRefusedToClients = ({ unknowns, refusals }: Load): boolean => unknowns.size + refusals.size > 0

/** Whether a whole segment of WAL can still be begun; when not, the server panics. */
const writeWal = (url: string): Promise<boolean> =>
  query(url, "select pg_switch_wal() from pg_logical_emit_message(true, 'fault', 'x')").then(
    () => true,
    () => false,
  )

const isUp = (url: string): Promise<boolean> =>
  query(url, 'select').then(
    () => true,
    () => false,
  )

export const limits = [connections, pool, disk]
