import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const say = defineOperation({ name: 'word.say', input: Type.Object({ word: Type.String() }) })

t.test('a job that cannot begin is released alone; the jobs claimed with it go on', async (t) => {
  const jobs = await openJobs(t, [say])
  const ids = [
    await jobs.add(say, { word: 'a' }),
    await jobs.add(say, { word: 'b' }),
    await jobs.add(say, { word: 'locked' }),
  ]
  const performed: string[] = []
  const finish = Promise.withResolvers<void>()
  t.teardown(() => finish.resolve())
  const locker = await jobs.database.pool.connect()
  t.teardown(() => locker.release(true))
  await locker.query('begin')
  await locker.query('select from accepted.job where id = $1 for update', [ids[2]])
  // The job that waits for its lock fails to begin, instead of waiting for as long as the lock is held.
  await jobs.query(
    `do $$ begin execute format('alter database %I set statement_timeout = 500', current_database()); end $$`,
  )
  const logged: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => void logged.push(JSON.parse(line).msg) })
  await jobs.work(
    defineHandlers(
      { say },
      {
        'word.say': {
          perform: async ({ payload }) => {
            performed.push(payload.word)
            await finish.promise
          },
        },
      },
    ),
    { log },
  )
  await until(() => logged.some((message) => message.startsWith('Jobs could not begin')))
  t.same(performed.sort(), ['a', 'b'])
  for (const id of ids.slice(0, 2)) {
    t.match(await jobs.query('select state::text from accepted_queue.job where id = $1', [id]), [{ state: 'active' }])
  }
  await locker.query('rollback')
  finish.resolve()
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.same(performed.sort(), ['a', 'b', 'locked'])
})
