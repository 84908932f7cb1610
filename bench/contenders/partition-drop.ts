import { setTimeout as delay } from 'node:timers/promises'
import { startCost } from '../core/cost.ts'
import { openLoop } from '../core/open-loop.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import { type Contender, warmUp } from '../core/scenario.ts'
import { acceptOne, addExpiredDay, vacuumAndCheckpoint } from '../core/seed.ts'
import { query } from '../core/server.ts'
import { quantile } from '../core/stats.ts'
import type { Dropped } from './partition-dropper.ts'

/** Requests at fixed times. The database has a partition of an expired day. */
export interface DropLoad {
  loader: Process
  perSecond: number
  seconds: number
  /** The number of jobs in the partition of the expired day. */
  expiredJobs: number
}

/** Requests that are due within this time after a drop may still wait behind earlier requests. */
const aftermathMs = 500
/** The table itself is dropped in the last second of a drop. */
const lastPartMs = 1_000

/** An API that accepts requests. A partition is dropped during the load or, if `isDuringLoad` is false, after it. */
export const partitionDrop = (name: string, isDuringLoad: boolean): Contender<DropLoad> => ({
  name,
  async open({ server, directory, quick }) {
    const database = isDuringLoad ? 'drop_during_load' : 'drop_after_load'
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    const api = await startAccepted('api', directory, env)
    const dropper = startModule('bench/contenders/partition-dropper.ts', directory, env)
    await dropper.receive()
    let isWarm = quick

    const drop = async (partition: string) => {
      dropper.send({})
      const dropped = await dropper.receive<Dropped>()
      const left = await query(databaseUrl, 'select from pg_class where relname = $1', [partition])
      if (left.length > 0) throw new Error(`${partition} was not dropped; the logs are in ${directory}`)
      return dropped
    }

    return {
      async measure({ loader, perSecond, seconds, expiredJobs }) {
        const url = `${api.url}/notes`
        if (!isWarm) await openLoop(loader, { url, ...warmUp })
        isWarm = true
        const template = await acceptOne(api.url)
        const { partition } = await addExpiredDay(databaseUrl, { template, count: expiredJobs })
        await vacuumAndCheckpoint(databaseUrl)
        const stopCost = await startCost(server, database, [])
        const loading = openLoop(loader, { url, perSecond, seconds })
        const dropping = isDuringLoad ? delay((seconds / 10) * 1000).then(() => drop(partition)) : undefined
        const [{ requests, p99: whole, ...latency }, duringLoad] = await Promise.all([loading, dropping])
        const { postgresCpu, walBytes } = await stopCost()
        const { from, to } = duringLoad ?? (await drop(partition))
        // Without this vacuum, autovacuum would clean up while another contender is measured.
        await vacuumAndCheckpoint(databaseUrl)
        const [last = 0] = requests.at(-1) ?? []
        if (duringLoad && to + aftermathMs > last)
          throw new Error(`The drop took ${Math.round(to - from)} ms, longer than the load: increase \`seconds\``)
        const latenciesBetween = (since: number, until: number) =>
          requests.filter(([due]) => due >= since && due <= until).map(([, latency]) => latency)
        const affected = duringLoad ? latenciesBetween(from, to + aftermathMs) : requests.map(([, latency]) => latency)
        return {
          ...latency,
          p99: quantile(affected, 0.99),
          whole,
          ...(duringLoad && { lastPart: quantile(latenciesBetween(to - lastPartMs, to + aftermathMs), 0.99) }),
          drop: (to - from) / 1000,
          postgresCpu: (postgresCpu / seconds) * 100,
          wal: walBytes / seconds / 1e6,
        }
      },
      async close() {
        await dropper.stop()
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
})
