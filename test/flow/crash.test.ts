import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { ended, get, post } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { type Program, start } from '../support/program.ts'
import { until } from '../support/until.ts'
import { schema } from './fixtures/operations.ts'

const config = join(import.meta.dirname, 'fixtures/accepted.config.ts')

// Most of the time is spent waiting for heartbeats that do not come.
t.jobs = 3

async function setUp(t: Parameters<typeof createDatabase>[0]) {
  const databaseUrl = await createDatabase(t)
  const database = openDatabase({ url: databaseUrl })
  t.teardown(() => database.close())
  await database.pool.query(schema)
  return { databaseUrl, database }
}

/** How many rows there are of everything that a request writes. */
async function written({ pool }: Database): Promise<Record<string, number>> {
  const { rows } = await pool.query(`
    select
      (select count(*)::int from note) as notes, (select count(*)::int from accepted.job) as jobs,
      (select count(*)::int from accepted.idempotency_key) as keys,
      (select count(*)::int from pgboss.job where name = 'note.create') as queued`)
  return rows[0]
}

/** Waits until a process of the fixture says a word. */
async function says(program: Program, word: string): Promise<void> {
  const [said] = await once(program.process, 'message')
  if (said !== word) throw new Error(`said ${said}, not ${word}`)
}

const nothing = { notes: 0, jobs: 0, keys: 0, queued: 0 }

t.test(
  'an API that is killed between the domain insert and the commit answers nothing and leaves nothing',
  async (t) => {
    const { databaseUrl, database } = await setUp(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const answer = post(`${api.url}/notes`, { text: 'hang in accept' }, { 'idempotency-key': 'k' }).then(
      ({ status }) => status,
      () => 'no answer',
    )
    await says(api, 'accepting')
    await api.end('SIGKILL')
    t.equal(await answer, 'no answer')
    await until(async () => {
      const { rows } = await database.pool.query(
        "select from pg_stat_activity where application_name = 'accepted api' and datname = current_database()",
      )
      return rows.length === 0
    })
    t.same(await written(database), nothing)
    const again = await start(t, 'api', { config, databaseUrl })
    const second = await post(`${again.url}/notes`, { text: 'not this time' }, { 'idempotency-key': 'k' })
    t.equal(second.status, 202, 'the key was not consumed')
  },
)

t.test('a commit that fails is no 202 and leaves nothing', async (t) => {
  const { databaseUrl, database } = await setUp(t)
  await database.pool.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not at commit'; end $$;
    create constraint trigger refuse_at_commit after insert on note deferrable initially deferred
      for each row execute function refuse();`)
  const api = await start(t, 'api', { config, databaseUrl })
  const { status, body } = await post(`${api.url}/notes`, { text: 'x' }, { 'idempotency-key': 'k' })
  t.equal(status, 500)
  t.equal(body.error.code, 'internal-error')
  t.notMatch(JSON.stringify(body), 'not at commit', 'a 5xx shows nothing inside')
  t.same(await written(database), nothing)
})

for (const [what, path] of [
  ['a batch', '/notes'],
  ['a performed job', '/notes/performed'],
] as const) {
  t.test(
    `a worker that is killed in the middle of settling ${what}: the effect is there once and the status true`,
    async (t) => {
      const { databaseUrl, database } = await setUp(t)
      const api = await start(t, 'api', { config, databaseUrl })
      const doomed = await start(t, 'worker', { config, databaseUrl, env: { HANG: 'settle' } })
      const settling = says(doomed, 'settling')
      const { body } = await post(api.url + path, { text: 'x' })
      await settling
      await doomed.end('SIGKILL')
      const effects = async () => (await database.pool.query('select job_id from effect')).rows
      t.same(await effects(), [], 'nothing of the settle is there')
      t.notOk((await get(body.links.self)).body.endedAt)

      await start(t, 'worker', { config, databaseUrl })
      const monitor = await ended(body.links.self)
      t.match(monitor, { status: 'succeeded', attempt: 2 })
      t.same(await effects(), [{ job_id: body.id }])
    },
  )
}

t.test(
  'a job that kills every worker that runs it fails with a readable error, and its neighbour has its effect',
  async (t) => {
    const { databaseUrl, database } = await setUp(t)
    const api = await start(t, 'api', { config, databaseUrl })
    const poison = await post(`${api.url}/notes/performed`, { text: 'poison' })
    const neighbour = await post(`${api.url}/notes/performed`, { text: 'four' })
    for (const crash of [1, 2, 3]) {
      const worker = await start(t, 'worker', { config, databaseUrl, env: { POISON: 'exit' } })
      await once(worker.process, 'exit')
      // As if the heartbeat were overdue already.
      await database.pool.query("update pgboss.job set heartbeat_on = now() - interval '1 hour' where state = 'active'")
      t.notOk((await get(poison.body.links.self)).body.endedAt, `crash ${crash} has not ended it`)
    }
    await start(t, 'worker', { config, databaseUrl, env: { POISON: 'exit' } })
    t.match(await ended(poison.body.links.self), {
      ...{ status: 'failed', attempt: 3 },
      error: { code: 'worker-crashed', message: /^Workers crashed/ },
    })
    t.match(await ended(neighbour.body.links.self), { status: 'succeeded' })
    const { rows } = await database.pool.query('select job_id from effect')
    t.same(rows, [{ job_id: neighbour.body.id }])
  },
)

t.test('a worker that is asked to stop hands back what does not end, without spending an attempt', async (t) => {
  const { databaseUrl } = await setUp(t)
  const api = await start(t, 'api', { config, databaseUrl })
  const worker = await start(t, 'worker', { config, databaseUrl, env: { HANG: 'perform', GRACE_SECONDS: '0' } })
  const performing = says(worker, 'performing')
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
