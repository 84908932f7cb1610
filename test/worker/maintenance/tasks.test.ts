import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { Word } from '../support.ts'

const say = defineOperation({ name: 'word.say', input: Word })

t.test('a worker sends heartbeats even while handlers use every connection of its pool', async (t) => {
  const jobs = await openJobs(t, [say])
  const id = await jobs.add(say, { word: 'x' })
  const mayEnd = Promise.withResolvers<void>()
  t.teardown(() => mayEnd.resolve())
  const worker = await jobs.work(
    defineHandlers({ say }, ({ db }) => ({
      'word.say': { perform: () => db.connection().execute(() => mayEnd.promise) },
    })),
    { database: { url: jobs.database.options.url, poolSize: 1 } },
  )
  const readHeartbeat = async () =>
    (await jobs.query("select heartbeat_on from accepted_queue.job where state = 'active'"))[0]?.heartbeat_on
  const first = await until(readHeartbeat)
  await until(async () => (await readHeartbeat()) > first)
  t.equal(worker.health(), 'ready')
  mayEnd.resolve()
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
})
