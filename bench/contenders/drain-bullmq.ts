// BullMQ with many concurrent jobs, so that several jobs share a sync of Redis.
import { Queue, Worker } from 'bullmq'
import { now } from '../core/clock.ts'
import { serveDrainer } from './drain-process.ts'

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }
const name = 'note'
const jobsPerCommand = 1_000

const queue = new Queue(name, { connection })
await queue.waitUntilReady()

serveDrainer({
  async fill(jobs) {
    await queue.obliterate({ force: true })
    await queue.resume()
    for (let from = 0; from < jobs; from += jobsPerCommand) {
      const length = Math.min(jobsPerCommand, jobs - from)
      await queue.addBulk(Array.from({ length }, (_, index) => ({ name, data: { noteId: String(from + index) } })))
    }
  },
  async drain({ jobs, atMostSeconds }) {
    const worker = new Worker(name, async () => {}, { connection, concurrency: 100, autorun: false })
    worker.on('error', (error) => console.error(error))
    let completed = 0
    let first = 0
    let last = 0
    const done = new Promise<void>((resolve) => {
      setTimeout(resolve, atMostSeconds * 1000).unref()
      worker.on('completed', () => {
        last = now()
        if (++completed === 1) first = last
        if (completed === jobs) resolve()
      })
    })
    void worker.run()
    await done
    const drained = { completed, perSecond: (completed - 1) / ((last - first) / 1000) }
    await worker.close()
    return drained
  },
})
