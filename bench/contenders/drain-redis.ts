import { startModule } from '../core/process.ts'
import { startRedis } from '../core/redis.ts'
import type { Contender } from '../core/scenario.ts'
import { cpuOf } from '../core/server.ts'
import type { DrainCommand, Drained, DrainLoad } from './drain-process.ts'

/** The part of the jobs that it gets: it is slower. */
const part = 0.4

/** BullMQ, on a Redis of its own that syncs before it answers. */
export const bullmq: Contender<DrainLoad> = {
  name: 'BullMQ, appendfsync always',
  async open({ directory }) {
    const redis = await startRedis(directory)
    const process = startModule('bench/contenders/drain-bullmq.ts', directory, { REDIS_PORT: String(redis.port) })
    await process.hear()
    return {
      async measure({ jobs, atMostSeconds }) {
        process.send({ fill: Math.ceil(jobs * part) } satisfies DrainCommand)
        await process.hear()
        const before = [cpuOf(process.pid), cpuOf(redis.pid)] as const
        process.send({ drain: { jobs: Math.ceil(jobs * part), atMostSeconds } } satisfies DrainCommand)
        const drained = await process.hear<Drained>((atMostSeconds + 60) * 1000)
        const spent = (pid: number, before: number) => ((cpuOf(pid) - before) / drained.ended) * 1e6
        return { ...drained, processCpu: spent(process.pid, before[0]), redisCpu: spent(redis.pid, before[1]) }
      },
      async close() {
        await process.stop()
        await redis.stop()
      },
    }
  },
}
