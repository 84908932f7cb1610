import { cpuOf } from '../core/proc.ts'
import { startModule } from '../core/process.ts'
import { startRedis } from '../core/redis.ts'
import type { Contender } from '../core/scenario.ts'
import { type DrainCommand, type Drained, type DrainLoad, replyMarginSeconds } from './drain-process.ts'

/** BullMQ gets only this fraction of the jobs, because it is slower. */
const jobShare = 0.4

/** BullMQ, on its own Redis. This Redis syncs each write to disk before it answers. */
export const bullmq: Contender<DrainLoad> = {
  name: 'BullMQ, appendfsync always',
  async open({ directory }) {
    const redis = await startRedis(directory)
    const process = startModule('bench/contenders/drain-bullmq.ts', directory, { REDIS_PORT: String(redis.port) })
    await process.receive()
    return {
      async measure({ jobs, atMostSeconds }) {
        process.send({ fill: Math.ceil(jobs * jobShare) } satisfies DrainCommand)
        await process.receive()
        const before = [cpuOf(process.pid), cpuOf(redis.pid)] as const
        process.send({ drain: { jobs: Math.ceil(jobs * jobShare), atMostSeconds } } satisfies DrainCommand)
        const drained = await process.receive<Drained>((atMostSeconds + replyMarginSeconds) * 1000)
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
