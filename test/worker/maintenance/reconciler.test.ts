import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const idle = defineOperation({ name: 'word.idle', input: Word })
const say = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })
const operations = { idle, say }

t.jobs = 4

/** Starts a worker that reconciles all operations and runs only word.say. */
const startReconciling = (jobs: Jobs) =>
  jobs.work(
    defineHandlers(operations, {
      'word.idle': { perform: async () => {} },
      'word.say': {
        settle: async (trx, batch) => {
          for (const { id } of batch) await trx.insertInto('effect').values({ job_id: id, word: 'said' }).execute()
        },
      },
    }),
    { operations: ['word.say'] },
  )

for (const { change, apply, expected } of [
  {
    change: 'canceled through pg-boss',
    apply: ({ boss }: Jobs, id: string) => boss.cancel(idle.name, id),
    expected: { status: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    change: 'failed through pg-boss',
    apply: ({ boss }: Jobs, id: string) => boss.fail(idle.name, id),
    expected: { status: 'failed', error: { code: 'failed-elsewhere' }, payload: { word: 'x' } },
  },
  {
    change: 'completed by hand in the queue',
    apply: ({ query }: Jobs, id: string) =>
      query("update accepted_queue.job set state = 'completed', completed_on = now() where id = $1", [id]),
    expected: { status: 'failed', error: { code: 'completed-elsewhere' }, payload: { word: 'x' } },
  },
  {
    change: 'canceled by hand in the queue (completed_on an hour ago)',
    apply: ({ query }: Jobs, id: string) =>
      query(
        "update accepted_queue.job set state = 'cancelled', completed_on = now() - interval '1 hour' where id = $1",
        [id],
      ),
    expected: { status: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    change: 'canceled by hand in the queue (completed_on null)',
    apply: ({ query }: Jobs, id: string) =>
      query("update accepted_queue.job set state = 'cancelled' where id = $1", [id]),
    expected: { status: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    change: 'deleted from the queue',
    apply: ({ query }: Jobs, id: string) => query('delete from accepted_queue.job where id = $1', [id]),
    expected: { status: 'failed', error: { code: 'queue-lost' }, payload: null },
  },
] as const) {
  t.test(`a queued or running job that is ${change} ends with the status ${expected.status}`, async (t) => {
    const jobs = await openJobs(t, [idle, say])
    await startReconciling(jobs)
    const queued = await jobs.add(idle, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
    const running = await jobs.add(idle, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
    await jobs.query("update accepted.job set status = 'running', attempt = 1 where id = $1", [running])
    if (change === 'failed through pg-boss') {
      // If a retry were left, pg-boss would not fail the job but schedule the retry.
      await jobs.query('update accepted_queue.job set retry_limit = 0')
    } else {
      await jobs.query("update accepted_queue.job set state = 'active', heartbeat_on = now() where id = $1", [running])
    }
    for (const id of [queued, running]) {
      await apply(jobs, id)
      t.match(await jobs.ended(id), expected)
    }
  })
}

t.test('a running job whose queue row waits for a retry becomes queued', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(idle, { word: 'x' })
  await jobs.query("update accepted.job set status = 'running', attempt = 1")
  await jobs.query("update accepted_queue.job set state = 'retry', started_on = now()")
  await startReconciling(jobs)
  await until(async () => (await jobs.read(id)).status === 'queued')
})

t.test('a job that is running in attempt 1 becomes queued when its queue row waits for attempt 2', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(idle, { word: 'x' })
  await jobs.query("update accepted.job set status = 'running', attempt = 1")
  await jobs.query("update accepted_queue.job set state = 'retry', retry_count = 1")
  await startReconciling(jobs)
  await until(async () => (await jobs.read(id)).status === 'queued')
})

t.test(
  'when a queue row is blocked but its job is not in quarantine, the row is unblocked and the job runs',
  async (t) => {
    const jobs = await openJobs(t, [idle, say])
    const id = await jobs.add(say, { word: 'x' })
    await jobs.query('update accepted_queue.job set blocked = true')
    await startReconciling(jobs)
    t.match(await jobs.ended(id), { status: 'succeeded' })
  },
)

t.test('a queue row that was created again with another id still belongs to its job', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(say, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
  await jobs.query('update accepted_queue.job set id = gen_random_uuid()')
  await startReconciling(jobs)
  const readComparedAt = async () =>
    (await jobs.query('select compared_at from accepted.reconciliation'))[0].compared_at as Date
  const before = await readComparedAt()
  await until(async () => (await readComparedAt()) > before)
  t.match(await jobs.read(id), { status: 'queued' })
  await jobs.query('update accepted_queue.job set start_after = now()')
  t.match(await jobs.ended(id), { status: 'succeeded' })
})

t.test(
  'a failed job that is put back into the queue runs once, as a new job; a canceled job does not run again',
  async (t) => {
    const jobs = await openJobs(t, [idle, say])
    const failed = await jobs.add(say, { word: 'x' }, { idempotencyKey: 'k', resource: '/words/1' })
    const canceled = await jobs.add(say, { word: 'y' })
    await jobs.boss.cancel(say.name, canceled)
    await jobs.query('update accepted_queue.job set retry_limit = 0')
    await jobs.boss.fail(say.name, failed)
    await startReconciling(jobs)
    await jobs.ended(failed)
    await jobs.ended(canceled)
    await jobs.boss.resume(say.name, canceled)
    await jobs.boss.retry(say.name, failed)
    const [retry] = await until(async () => {
      const rows = await jobs.query('select * from accepted.job where retry_of is not null and ended_at is not null')
      return rows.length > 0 && rows
    })
    t.match(retry, {
      status: 'succeeded',
      retry_of: failed,
      idempotency_key: 'k',
      resource: '/words/1',
      principal: 'ann',
    })
    t.match(await jobs.read(failed), { status: 'failed' })
    await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
    t.match(await jobs.read(canceled), { status: 'canceled' })
    t.same(await jobs.query('select job_id, word from effect'), [{ job_id: retry.id, word: 'said' }])
  },
)

t.test('the reconciler compares all jobs, one range at a time, and later skips the jobs that had ended', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  await jobs.query(`
    insert into accepted.job (id, operation, status, principal, max_attempts, created_at, ended_at, expires_at)
    select accepted.uuid_floor(now() - interval '5 hours' + n * interval '1 ms'), 'word.idle', 'succeeded', 'ann', 1,
      now(), now(), now() + interval '1 day'
    from generate_series(1, 25000) n`)
  const missing = uuid7()
  await jobs.query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    values ($1, 'word.idle', 'ann', 1, now())`,
    [missing],
  )
  await startReconciling(jobs)
  t.match(await jobs.ended(missing), { error: { code: 'queue-lost' } })
  const [{ ended_up_to, last_ended }] = await jobs.query(`
    select
      ended_up_to, (select id from accepted.job where status = 'succeeded' order by id desc limit 1) as last_ended
    from accepted.reconciliation`)
  t.equal(ended_up_to, last_ended)
})
