import { cpuOf } from '../core/proc.ts'
import { startModule } from '../core/process.ts'
import { startRedis } from '../core/redis.ts'
import type { Contender } from '../core/scenario.ts'
import type { DrainCommand, Drained, DrainLoad } from './drain-process.ts'

/** The fraction of the jobs that BullMQ gets, since it is slower. */
const share = 0.4

/** BullMQ, on a Redis of its own that syncs before it answers. */
export const bullmq: Contender<DrainLoad> = {
  name: 'BullMQ, appendfsync always',
  async open({ directory }) {
    const redis = await startRedis(directory)
    const process = startModule('bench/contenders/drain-bullmq.ts', directory, { REDIS_PORT: String(redis.port) })
    await process.receive()
    return {
      async measure({ jobs, atMostSeconds }) {
        process.send({ fill: Math.ceil(jobs * share) } satisfies DrainCommand)
        await process.receive()
        const before = [cpuOf(process.pid), cpuOf(redis.pid)] as const
        process.send({ drain: { jobs: Math.ceil(jobs * share), atMostSeconds } } satisfies DrainCommand)
        const drained = await process.receive<Drained>((atMostSeconds + 60) * 1000)
        const perJob = (pid: number, before: number) => ((cpuOf(pid) - before) / drained.completed) * 1e6
        return { ...drained, processCpu: perJob(process.pid, before[0]), redisCpu: perJob(redis.pid, before[1]) }
      },
      async close() {
        await process.stop()
        await redis.stop()
      },
    }
  },
}
