import { once } from 'node:events'
import t from 'tap'
import type { Database } from '../../src/db/database.ts'
import { ended, get, post } from '../support/client.ts'
import { type Program, start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { config, createFixtureDatabase } from './fixtures/database.ts'

// The tests mostly wait until heartbeats are overdue, so the tests run in parallel.
t.jobs = 3

/** Counts the rows that requests have written, by kind. */
async function countWrites({ pool }: Database): Promise<Record<string, number>> {
  const { rows } = await pool.query(`
    select
      (select count(*)::int from note) as notes, (select count(*)::int from accepted.job) as jobs,
      (select count(*)::int from accepted.idempotency_key) as keys,
      (select count(*)::int from accepted_queue.job where name = 'note.create') as queued`)
  return rows[0]
}

/** Waits for the next message of a program. Throws if it is not the expected message. */
async function untilMessage(program: Program, expected: string): Promise<void> {
  const [message] = await once(program.process, 'message')
  if (message !== expected) throw new Error(`Expected the message '${expected}', got '${message}'`)
}

const nothing = { notes: 0, jobs: 0, keys: 0, queued: 0 }

t.test(
  'an API that is killed between the domain insert and the commit sends no response and leaves nothing behind',
  async (t) => {
    const { databaseUrl, database } = await createFixtureDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const answer = post(`${api.url}/notes`, { text: 'hang in accept' }, { 'idempotency-key': 'k' }).then(
      ({ status }) => status,
      () => 'no response',
    )
    await untilMessage(api, 'accepting')
    await api.end('SIGKILL')
    t.equal(await answer, 'no response')
    await until(async () => {
      const { rows } = await database.pool.query(
        "select from pg_stat_activity where application_name ~ '^accepted api [^ ]+$' and datname = current_database()",
      )
      return rows.length === 0
    })
    t.same(await countWrites(database), nothing)
    const again = await start(t, 'api', { config, databaseUrl })
    const second = await post(`${again.url}/notes`, { text: 'do not hang' }, { 'idempotency-key': 'k' })
    t.equal(second.status, 202, 'the key is still unused')
  },
)

t.test('a request whose commit fails gets no 202 and leaves nothing behind', async (t) => {
  const { databaseUrl, database } = await createFixtureDatabase(t)
  await database.pool.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused at commit'; end $$;
    create constraint trigger refuse_at_commit after insert on note deferrable initially deferred
      for each row execute function refuse();`)
  const api = await start(t, 'api', { config, databaseUrl })
  const { status, body } = await post(`${api.url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 500)
  t.equal(body.error.code, 'internal-error')
  t.notMatch(JSON.stringify(body), 'refused at commit', 'the response does not contain the text of the database error')
  t.same(await countWrites(database), nothing)
})

for (const [subject, path] of [
  ['a batch', '/notes'],
  ['a performed job', '/notes/performed'],
] as const) {
  t.test(`when a worker is killed while it settles ${subject}, the job takes effect once and succeeds`, async (t) => {
    const { databaseUrl, database } = await createFixtureDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const doomed = await start(t, 'worker', { config, databaseUrl, env: { HANG: 'settle' } })
    const settling = untilMessage(doomed, 'settling')
    const { body } = await post(api.url + path, { text: 'x' })
    await settling
    await doomed.end('SIGKILL')
    const effects = async () => (await database.pool.query('select job_id from effect')).rows
    t.same(await effects(), [], 'the settle was rolled back')
    t.notOk((await get(body.links.self)).body.endedAt)

    await start(t, 'worker', { config, databaseUrl })
    const monitor = await ended(body.links.self)
    t.match(monitor, { status: 'succeeded', attempt: 2 })
    t.same(await effects(), [{ job_id: body.id }])
  })
}

for (const [moment, message] of [
  ['perform', 'performing'],
  ['abandon', 'abandoning'],
] as const) {
  t.test(`when a worker is killed in ${moment} of a job that fails, abandon takes effect once`, async (t) => {
    const { databaseUrl, database } = await createFixtureDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const doomed = await start(t, 'worker', { config, databaseUrl, env: { HANG: moment } })
    const reached = untilMessage(doomed, message)
    const { body } = await post(`${api.url}/notes/doomed`, { text: 'x' })
    await reached
    await doomed.end('SIGKILL')
    const effects = async () => (await database.pool.query('select job_id, text from effect')).rows
    t.same(await effects(), [], 'abandon was rolled back')
    t.notOk((await get(body.links.self)).body.endedAt)

    const second = await start(t, 'worker', { config, databaseUrl })
    t.match(await ended(body.links.self), { status: 'failed', error: { code: 'doomed' } })
    await second.end('SIGKILL')
    await start(t, 'worker', { config, databaseUrl })
    const later = await post(`${api.url}/notes/performed`, { text: 'after the end' })
    await ended(later.body.links.self)
    t.match(
      (await effects()).filter(({ job_id }) => job_id === body.id),
      [{ text: 'failed' }],
      'a worker that was killed after the end changes nothing',
    )
  })
}

t.test(
  'when an API is killed in the middle of a cancel, a worker cancels the job, and abandon takes effect once',
  async (t) => {
    const { databaseUrl, database } = await createFixtureDatabase(t)
    const api = await start(t, 'api', { config, databaseUrl, env: { HANG: 'abandon' } })
    const { body } = await post(`${api.url}/notes/doomed`, { text: 'x' })
    const abandoning = untilMessage(api, 'abandoning')
    const answer = post(`${api.url}/jobs/${body.id}/cancel`, {}).then(
      ({ status }) => status,
      () => 'no response',
    )
    await abandoning
    await api.end('SIGKILL')
    t.equal(await answer, 'no response')
    await start(t, 'worker', { config, databaseUrl })
    const another = await start(t, 'api', { config, databaseUrl })
    t.match(await ended(`${another.url}/jobs/${body.id}`), { status: 'canceled' })
    t.same((await database.pool.query('select job_id, text from effect')).rows, [{ job_id: body.id, text: 'canceled' }])
  },
)

t.test('a job that kills every worker fails with worker-crashed, and the jobs beside it succeed', async (t) => {
  const { databaseUrl, database } = await createFixtureDatabase(t)
  const api = await start(t, 'api', { config, databaseUrl })
  const submit = async (text: string) => (await post(`${api.url}/notes/performed`, { text })).body
  const poison = await submit('poison')
  const neighbors: { id: string; links: { self: string } }[] = []
  for (let count = 1; count < 10; count++) neighbors.push(await submit('four'))
  await database.pool.query("select accepted.pause('note.perform')")
  // The first worker holds all ten jobs, the second one a group of three, and the others run the job alone.
  for (const crash of [1, 2, 3, 4]) {
    const worker = await start(t, 'worker', { config, databaseUrl, env: { POISON: 'exit' } })
    const exited = once(worker.process, 'exit')
    if (crash === 1) await database.pool.query("select accepted.resume('note.perform')")
    await exited
    // Makes the heartbeats overdue at once.
    await database.pool.query(
      "update accepted_queue.job set heartbeat_on = now() - interval '1 hour' where state = 'active'",
    )
    t.notOk((await get(poison.links.self)).body.endedAt, `the job has not ended after crash ${crash}`)
  }
  await start(t, 'worker', { config, databaseUrl, env: { POISON: 'exit' } })
  t.match(await ended(poison.links.self), {
    ...{ status: 'failed', attempt: 4 },
    error: { code: 'worker-crashed', message: 'The process or thread that ran the job crashed' },
  })
  for (const { links } of neighbors) t.match(await ended(links.self), { status: 'succeeded' })
  const { rows: effects } = await database.pool.query('select job_id from effect order by job_id')
  t.same(
    effects.map(({ job_id }) => job_id),
    neighbors.map(({ id }) => id).sort(),
  )
  const { rows: losses } = await database.pool.query(
    'select count(*)::integer as lost from accepted.attempt where job_id <> $1 group by job_id',
    [poison.id],
  )
  t.equal(losses.length, 9)
  t.ok(
    losses.every(({ lost }) => lost <= 2),
    'at most two workers died while they held one of the other jobs',
  )
})

t.test('a stopping worker releases a job that does not end in time, and the job uses up no attempt', async (t) => {
  const { databaseUrl } = await createFixtureDatabase(t)
  const api = await start(t, 'api', { config, databaseUrl })
  const worker = await start(t, 'worker', { config, databaseUrl, env: { HANG: 'perform', GRACE_SECONDS: '0' } })
  const performing = untilMessage(worker, 'performing')
  const { body } = await post(`${api.url}/notes/performed`, { text: 'four' })
  await performing
  t.equal(await worker.end('SIGTERM'), 0)
  t.match((await get(body.links.self)).body, { status: 'queued' })
  await start(t, 'worker', { config, databaseUrl })
  t.match(await ended(body.links.self), {
    status: 'succeeded',
    attempt: 1,
    result: { length: 4 },
    percentComplete: 100,
  })
})
