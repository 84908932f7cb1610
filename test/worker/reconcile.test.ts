import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const idle = defineOperation({ name: 'word.idle', input: Word })
const say = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })
const operations = { idle, say }

t.jobs = 4

/** A worker that runs one operation, and leaves the jobs of the other alone. */
const watch = (jobs: Jobs) =>
  jobs.work(
    defineHandlers(operations, {
      'word.idle': { perform: async () => {} },
      'word.say': {
        settle: async (trx, batch) => {
          for (const { id } of batch) await trx.insertInto('effect').values({ job_id: id, word: 'said' }).execute()
        },
      },
    }),
    { only: ['word.say'] },
  )

for (const { what, act, expected } of [
  {
    what: 'canceled with the means of pg-boss',
    act: ({ boss }: Jobs, id: string) => boss.cancel(idle.name, id),
    expected: { state: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    what: 'failed with the means of pg-boss',
    act: ({ boss }: Jobs, id: string) => boss.fail(idle.name, id),
    expected: { state: 'failed', error: { code: 'worker-lost' }, payload: { word: 'x' } },
  },
  {
    what: 'completed in the queue by hand',
    act: ({ query }: Jobs, id: string) =>
      query("update pgboss.job set state = 'completed', completed_on = now() where id = $1", [id]),
    expected: { state: 'failed', error: { code: 'completed-elsewhere' }, payload: { word: 'x' } },
  },
  {
    what: 'canceled in the queue by hand, an hour ago by its own account',
    act: ({ query }: Jobs, id: string) =>
      query("update pgboss.job set state = 'cancelled', completed_on = now() - interval '1 hour' where id = $1", [id]),
    expected: { state: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    what: 'canceled in the queue by hand, without a date',
    act: ({ query }: Jobs, id: string) => query("update pgboss.job set state = 'cancelled' where id = $1", [id]),
    expected: { state: 'canceled', error: null, payload: { word: 'x' } },
  },
  {
    what: 'deleted from the queue',
    act: ({ query }: Jobs, id: string) => query('delete from pgboss.job where id = $1', [id]),
    expected: { state: 'failed', error: { code: 'queue-lost' }, payload: null },
  },
] as const) {
  t.test(`a job that is ${what} ends so for its client, whether it waits or runs`, async (t) => {
    const jobs = await openJobs(t, [idle, say])
    await watch(jobs)
    const waiting = await jobs.add(idle, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
    const running = await jobs.add(idle, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
    await jobs.query("update accepted.job set state = 'running', attempt = 1 where id = $1", [running])
    if (what !== 'failed with the means of pg-boss') {
      await jobs.query("update pgboss.job set state = 'active', heartbeat_on = now() where id = $1", [running])
    } else {
      await jobs.query('update pgboss.job set retry_limit = 0')
    }
    for (const id of [waiting, running]) {
      await act(jobs, id)
      t.match(await jobs.ended(id), expected)
    }
  })
}

t.test('a job that is shown as running, and waits for its retry in the queue, is queued', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(idle, { word: 'x' })
  await jobs.query("update accepted.job set state = 'running', attempt = 1")
  await jobs.query("update pgboss.job set state = 'retry', started_on = now()")
  await watch(jobs)
  await until(async () => (await jobs.read(id)).state === 'queued')
})

t.test('a job that an earlier attempt shows as running, and that waits for a later one, is queued', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(idle, { word: 'x' })
  await jobs.query("update accepted.job set state = 'running', attempt = 1")
  await jobs.query("update pgboss.job set state = 'retry', retry_count = 1")
  await watch(jobs)
  await until(async () => (await jobs.read(id)).state === 'queued')
})

t.test('a job that is blocked in the queue for no reason is run', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(say, { word: 'x' })
  await jobs.query('update pgboss.job set blocked = true')
  await watch(jobs)
  t.match(await jobs.ended(id), { state: 'succeeded' })
})

t.test('a row that was made anew under another id is the same job', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  const id = await jobs.add(say, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
  await jobs.query('update pgboss.job set id = gen_random_uuid()')
  await watch(jobs)
  const looked = 'select looked_at from accepted.reconciliation'
  const [{ looked_at }] = await jobs.query(looked)
  await until(async () => (await jobs.query(looked))[0].looked_at > looked_at)
  t.match(await jobs.read(id), { state: 'queued' })
  await jobs.query('update pgboss.job set start_after = now()')
  t.match(await jobs.ended(id), { state: 'succeeded' })
})

t.test(
  'a failed job that somebody puts back into the queue runs as a new one, once; a canceled one stays canceled',
  async (t) => {
    const jobs = await openJobs(t, [idle, say])
    const failed = await jobs.add(say, { word: 'x' }, { idempotencyKey: 'k', resource: '/words/1' })
    const canceled = await jobs.add(say, { word: 'y' })
    await jobs.boss.cancel(say.name, canceled)
    await jobs.query('update pgboss.job set retry_limit = 0')
    await jobs.boss.fail(say.name, failed)
    await watch(jobs)
    await jobs.ended(failed)
    await jobs.ended(canceled)
    await jobs.boss.resume(say.name, canceled)
    await jobs.boss.retry(say.name, failed)
    const [retry] = await until(async () => {
      const rows = await jobs.query('select * from accepted.job where retry_of is not null and ended_at is not null')
      return rows.length > 0 && rows
    })
    t.match(retry, {
      state: 'succeeded',
      retry_of: failed,
      idempotency_key: 'k',
      resource: '/words/1',
      principal: 'ann',
    })
    t.match(await jobs.read(failed), { state: 'failed' })
    await until(async () => (await jobs.query("select from pgboss.job where state = 'completed'")).length === 3)
    t.match(await jobs.read(canceled), { state: 'canceled' })
    t.same(await jobs.query('select job_id, word from effect'), [{ job_id: retry.id, word: 'said' }])
  },
)

t.test('all jobs are looked through, a piece at a time; what has ended is not looked at again', async (t) => {
  const jobs = await openJobs(t, [idle, say])
  await jobs.query(`
    insert into accepted.job (id, operation, state, principal, max_attempts, created_at, ended_at, expires_at)
    select accepted.uuid_floor(now() - interval '5 hours' + n * interval '1 ms'), 'word.idle', 'succeeded', 'ann', 1,
      now(), now(), now() + interval '1 day'
    from generate_series(1, 25000) n`)
  const lost = uuid7()
  await jobs.query(
    "insert into accepted.job (id, operation, principal, max_attempts, expires_at) values ($1, 'word.idle', 'ann', 1, now())",
    [lost],
  )
  await watch(jobs)
  t.match(await jobs.ended(lost), { error: { code: 'queue-lost' } })
  const [{ ended_up_to, last }] = await jobs.query(
    "select ended_up_to, (select id from accepted.job where state = 'succeeded' order by id desc limit 1) as last from accepted.reconciliation",
  )
  t.equal(ended_up_to, last)
})
