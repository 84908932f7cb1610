import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import pg from 'pg'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

t.test('a job that changes others and is canceled half way says exactly how many it has changed', async (t) => {
  const jobs = await openJobs(t, [note])
  const { query } = jobs
  await query(`select accepted.enqueue('note.create') from generate_series(1, 120)`)
  const blocker = new pg.Client({ connectionString: jobs.database.options.url })
  await blocker.connect()
  t.teardown(() => blocker.end())
  await blocker.query(
    'begin; select from accepted.job where id = (select id from accepted.job order by id limit 1 offset 50) for update',
  )

  const handlers = defineHandlers({ note }, { 'note.create': { settle: async () => {} } })
  await jobs.work(handlers, { operations: ['jobs.bulk'] })
  const [bulk] = await query(`select accepted.bulk('cancel', '{"operation": "note.create"}') as id`)
  const id = bulk?.id as string
  await until(async () => (await jobs.read(id)).message === '50 of 120 canceled')
  // The change of the next jobs waits for the lock. It must not commit after the cancellation.
  await query('select accepted.cancel($1)', [id])
  t.match(await jobs.ended(id), { status: 'canceled' })
  await blocker.query('commit')
  await until(async () => {
    const changes = await query(
      `select from pg_stat_activity where datname = current_database() and state <> 'idle' and pid <> pg_backend_pid()
        and query ~ 'change_jobs|message ='`,
    )
    return changes.length === 0
  })
  t.match(await jobs.read(id), { message: '50 of 120 canceled' })
  const canceled = await query("select from accepted.job where operation = 'note.create' and status = 'canceled'")
  t.equal(canceled.length, 50)
})

t.test('the last message of such a job counts all that it has changed', async (t) => {
  const jobs = await openJobs(t, [note])
  await jobs.query(`select accepted.enqueue('note.create') from generate_series(1, 60)`)
  const handlers = defineHandlers({ note }, { 'note.create': { settle: async () => {} } })
  await jobs.work(handlers, { operations: ['jobs.bulk'] })
  for (const message of ['60 of 60 canceled', '0 of 0 canceled']) {
    const [bulk] = await jobs.query(`select accepted.bulk('cancel', '{"operation": "note.create"}') as id`)
    t.match(await jobs.ended(bulk?.id as string), { status: 'succeeded', message })
  }
})
