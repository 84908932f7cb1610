import { setTimeout as delay } from 'node:timers/promises'
import { openLoop } from '../core/open-loop.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import { type Contender, warmUp } from '../core/scenario.ts'
import { acceptOne, addExpiredDay, settleTables } from '../core/seed.ts'
import { query, startCost } from '../core/server.ts'
import { quantile } from '../core/stats.ts'
import type { Dropped } from './partition-dropper.ts'

/** So many requests a second at fixed times; a day of so many jobs is there, and has expired. */
export interface DropLoad {
  loader: Process
  perSecond: number
  seconds: number
  expired: number
}

/** Those due so long after it may still wait for others, in milliseconds. */
const aftermath = 500
/** So long before its end the table is dropped, in milliseconds, at the earliest. */
const ending = 1_000

/** An API that accepts while the partition is dropped, or before it is. */
export const partitionDrop = (name: string, isMeanwhile: boolean): Contender<DropLoad> => ({
  name,
  async open({ server, directory, quick }) {
    const database = isMeanwhile ? 'drop_meanwhile' : 'drop_afterwards'
    const databaseUrl = await server.createOurs(database)
    const env = { DATABASE_URL: databaseUrl }
    const api = await startAccepted('api', directory, env)
    const dropper = startModule('bench/contenders/partition-dropper.ts', directory, env)
    await dropper.hear()
    let isWarm = quick

    const drop = async (partition: string) => {
      dropper.send({})
      const dropped = await dropper.hear<Dropped>()
      const left = await query(databaseUrl, 'select from pg_class where relname = $1', [partition])
      if (left.length > 0) throw new Error(`${partition} was not dropped; see ${directory}`)
      return dropped
    }

    return {
      async measure({ loader, perSecond, seconds, expired }) {
        const url = `${api.url}/notes`
        if (!isWarm) await openLoop(loader, { url, ...warmUp })
        isWarm = true
        const { partition } = await addExpiredDay(databaseUrl, { template: await acceptOne(api.url), count: expired })
        await settleTables(databaseUrl)
        const end = await startCost(server, database, [])
        const loading = openLoop(loader, { url, perSecond, seconds })
        const dropping = isMeanwhile ? delay(seconds * 100).then(() => drop(partition)) : undefined
        const [{ course, p99: whole, ...latency }, meanwhile] = await Promise.all([loading, dropping])
        const { postgresCpu, walBytes } = await end()
        const { from, to } = meanwhile ?? (await drop(partition))
        // What it leaves is not to be cleared away while another one is measured.
        await settleTables(databaseUrl)
        const [last = 0] = course.at(-1) ?? []
        if (meanwhile && to + aftermath > last) throw new Error(`The drop took ${to - from} ms: ask for longer`)
        const within = (since: number, until: number) =>
          course.filter(([due]) => due >= since && due <= until).map(([, latency]) => latency)
        const concerned = meanwhile ? within(from, to + aftermath) : course.map(([, latency]) => latency)
        return {
          ...latency,
          p99: quantile(concerned, 0.99),
          whole,
          ...(meanwhile && { atTheEnd: quantile(within(to - ending, to + aftermath), 0.99) }),
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
