import { existsSync, readdirSync } from 'node:fs'
import t from 'tap'
import { createDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'

/** `maxConcurrentDeliveries` in worker/webhooks/deliver.ts. */
const maxDeliveries = 50

const skip = !existsSync('/proc/self/task') && 'only Linux lists the threads of a process'

t.test('a worker has enough threads to look up a host name for each delivery at a time', { skip }, async (t) => {
  const databaseUrl = await createDatabase(t)
  const threadsOf = async (env: NodeJS.ProcessEnv) => {
    const worker = await start(t, 'worker', { databaseUrl, env: { DATA_DIR: t.testdir(), ...env } })
    const { length } = readdirSync(`/proc/${worker.process.pid}/task`)
    await worker.end()
    return length
  }
  // Node.js has other threads too.
  const [few, many] = [await threadsOf({ UV_THREADPOOL_SIZE: '1' }), await threadsOf({})]
  t.ok(many - few + 1 >= maxDeliveries, `${few} threads with one for lookups, ${many} by default`)
})
