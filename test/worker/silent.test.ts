import { defineOperation } from 'accepted'
import { defineHandlers, RetryAfter } from 'accepted/worker'
import { sql } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../src/db/notifier.ts'
import { cancelJob } from '../../src/jobs/cancel.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { type Claim, createClaims } from '../../worker/claim.ts'
import { LostClaim } from '../../worker/failure.ts'
import { handBack } from '../../worker/hand-back.ts'
import type { Lane } from '../../worker/lane.ts'
import type { Loop } from '../../worker/loop.ts'
import { createMetrics } from '../../worker/metrics.ts'
import { enterSweeps, takeBackSilent } from '../../worker/silent.ts'
import { createSuspects, forgetEndedSuspects } from '../../worker/suspects.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const once = defineOperation({ name: 'word.once', input: Word, retry: { limit: 0 } })
const often = defineOperation({ name: 'word.often', input: Word })
const operations = { once, often }

// Most of the time is spent waiting for a worker to trust its connection.
t.jobs = 4

/** Claims jobs of an operation as a worker does that falls silent then. */
async function claimAndFallSilent(jobs: Jobs, operation: typeof once | typeof often, count: number) {
  const claims = createClaims(jobs.database, jobs.boss, operation)
  const claimed = await claims.claim(count)
  if (claimed.length !== count) throw new Error(`${claimed.length} of ${count} claimed`)
  await jobs.query("update pgboss.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
  return { claims, claimed }
}

/** The lane of an operation, without a worker. */
function laneOf(t: Test, { database, boss }: Jobs, operation: typeof once | typeof often): Lane {
  const hints = createNotifier(database)
  t.teardown(() => hints.flush())
  return {
    ...{ operation, database, boss, hints },
    handler: { perform: async () => {} },
    claims: createClaims(database, boss, operation),
    metrics: createMetrics(database, { operations: [], running: () => 0, isListening: () => false }),
    log: pino({ level: 'silent' }),
  }
}

/** A job that workers fell silent with before, long ago. */
const suspect = (jobs: Jobs, id: string, { crashes, falls = crashes }: { crashes: number; falls?: number }) =>
  jobs.query(
    `insert into accepted.suspect (job_id, operation, queue_id, crashes, falls, crashed_at)
    select id, operation, id, $2, $3, now() - interval '1 minute' from accepted.job where id = $1`,
    [id, crashes, falls],
  )

/** A loop that holds nothing. */
const idleLoop = (run: Loop['run']): Loop => ({
  wake() {},
  held: () => [],
  pause: async () => {},
  resume() {},
  run,
  drain: async () => {},
})

/** Handlers that note what runs beside what. */
function watchfulHandlers() {
  const running = new Set<string>()
  const company = new Map<string, number>()
  const perform = async ({ id }: { id: string }) => {
    running.add(id)
    for (const each of running) company.set(each, Math.max(company.get(each) ?? 0, running.size - 1))
    await new Promise((resolve) => setTimeout(resolve, 50))
    running.delete(id)
  }
  return { company, handlers: defineHandlers(operations, { 'word.once': { perform }, 'word.often': { perform } }) }
}

t.test('the jobs of a worker that fell silent run again, alone, and spend no attempt', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const suspects = [await jobs.add(once, { word: 'a' }), await jobs.add(once, { word: 'b' })]
  await claimAndFallSilent(jobs, once, 2)
  const others = await Promise.all(Array.from({ length: 40 }, () => jobs.add(often, { word: 'x' })))
  const { company, handlers } = watchfulHandlers()
  await jobs.work(handlers)
  for (const id of suspects) {
    t.match(await jobs.ended(id), { state: 'succeeded', attempt: 2, max_attempts: 2 })
    t.equal(company.get(id), 0, 'nothing ran beside it')
  }
  for (const id of others) await jobs.ended(id)
  t.ok(
    others.some((id) => (company.get(id) ?? 0) > 0),
    'the others run beside each other',
  )
  t.match(await jobs.query('select attempt, error from accepted.attempt'), [
    { attempt: 1, error: { code: 'worker-lost' } },
    { attempt: 1, error: { code: 'worker-lost' } },
  ])
  await until(async () => (await jobs.query('select from accepted.suspect')).length === 0)
})

t.test(
  'the one that fell silent has lost its claim as soon as it is taken back, and still once it is claimed anew',
  async (t) => {
    const jobs = await openJobs(t, [once])
    const id = await jobs.add(once, { word: 'a' })
    const { claims, claimed } = await claimAndFallSilent(jobs, once, 1)
    const { database } = jobs
    const lane = laneOf(t, jobs, once)
    await enterSweeps(database, [once.name])
    await takeBackSilent(database, [lane])
    t.match(await jobs.read(id), { state: 'queued', attempt: 1, max_attempts: 2 })
    const end = (ours: readonly Claim[]) =>
      database.kysely.transaction().execute((trx) => claims.complete(trx as unknown as AnyTransaction, ours))
    await t.rejects(end(claimed), LostClaim)
    t.same(await claims.claim(1), [], 'it is not claimed beside others')
    const again = await claims.claimSuspect(id)
    t.equal(await claims.claimSuspect(id), undefined, 'once')
    await t.rejects(end(claimed), LostClaim)
    await end([again as Claim])
  },
)

t.test('a queue is swept by one worker at a time, and an error with one job does not keep the others', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const { database } = jobs
  const lanes = [laneOf(t, jobs, once), laneOf(t, jobs, often)]
  const broken = await jobs.add(once, { word: 'a' })
  const other = await jobs.add(often, { word: 'b' })
  await claimAndFallSilent(jobs, once, 1)
  await claimAndFallSilent(jobs, often, 1)
  await enterSweeps(database, ['word.once', 'word.often'])
  await jobs.query("update accepted.sweep set swept_at = 'infinity'")
  await takeBackSilent(database, lanes)
  t.same(await jobs.query('select from accepted.attempt'), [], 'it is the turn of somebody else')
  await jobs.query("update accepted.sweep set swept_at = '-infinity'")
  await jobs.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
    create trigger refuse before update on accepted.job
      for each row when (new.operation = 'word.once') execute function refuse()`)
  await takeBackSilent(database, lanes)
  t.same(await jobs.query('select job_id from accepted.attempt'), [{ job_id: other }])
  t.match(await jobs.query('select state::text from pgboss.job where id = $1', [broken]), [{ state: 'active' }])
})

t.test('jobs are handed back together, but for those that have ended, are lost, or are being settled', async (t) => {
  const jobs = await openJobs(t, [often])
  for (let count = 0; count < 200; count++) await jobs.add(often, { word: 'x' })
  const lane = laneOf(t, jobs, often)
  const claimed = await lane.claims.claim(200)
  const [ended, lost, settling] = claimed.map(({ jobId }) => jobId)
  await jobs.query("update accepted.job set state = 'running'")
  await jobs.query("update accepted.job set state = 'succeeded', ended_at = now() where id = $1", [ended])
  await jobs.query("update pgboss.job set state = 'completed' where id = $1", [ended])
  await jobs.query('update pgboss.job set retry_count = 1 where id = $1', [lost])
  const settle = await jobs.database.pool.connect()
  t.teardown(() => settle.release(true))
  await settle.query('begin')
  await settle.query('select from accepted.job where id = $1 for update', [settling])
  let statements = 0
  jobs.database.pool.on('acquire', () => {
    statements += 1
  })
  await handBack(lane, claimed)
  t.ok(statements <= 2, 'the job that is locked costs another try, and no more')
  t.match(await jobs.query("select state::text, retry_count from pgboss.job where state <> 'created' order by id"), [
    { state: 'completed' },
    { state: 'active', retry_count: 1 },
    { state: 'active', retry_count: 0 },
  ])
  t.same(await jobs.query("select count(*)::integer from accepted.job where state = 'queued'"), [{ count: 197 }])
})

t.test(
  'a job that silences a third worker has failed; its payload is kept, and its row in the queue fails',
  async (t) => {
    const jobs = await openJobs(t, [once, often])
    const id = await jobs.add(often, { word: 'a' })
    await suspect(jobs, id, { crashes: 2 })
    await claimAndFallSilent(jobs, often, 1)
    await jobs.work(watchfulHandlers().handlers)
    t.match(await jobs.ended(id), {
      ...{ state: 'failed', attempt: 1, max_attempts: 4, payload: { word: 'a' } },
      error: { code: 'worker-crashed' },
    })
    t.match(await jobs.query('select state::text from pgboss.job where id = $1', [id]), [{ state: 'failed' }])
  },
)

for (const [what, more, state] of [
  ['is not counted', { crashes: 2 }, 'succeeded'],
  ['is counted in the end', { crashes: 2, falls: 7 }, 'failed'],
] as const) {
  t.test(`that a worker falls silent with a job when another one does, too, ${what}`, async (t) => {
    const jobs = await openJobs(t, [once, often])
    const known = await jobs.add(often, { word: 'a' })
    const elsewhere = await jobs.add(once, { word: 'b' })
    await suspect(jobs, known, more)
    await claimAndFallSilent(jobs, often, 1)
    await claimAndFallSilent(jobs, once, 1)
    await jobs.work(watchfulHandlers().handlers)
    t.match(await jobs.ended(known), { state })
    t.match(await jobs.ended(elsewhere), { state: 'succeeded' })
  })
}

t.test('that jobs fell silent together keeps none of them from being counted when it does so alone', async (t) => {
  const jobs = await openJobs(t, [once])
  const killer = await jobs.add(once, { word: 'a' })
  await jobs.add(once, { word: 'b' })
  const lane = laneOf(t, jobs, once)
  await enterSweeps(jobs.database, [once.name])
  const sweep = async () => {
    await jobs.query("update accepted.sweep set swept_at = '-infinity'")
    await jobs.query("update pgboss.job set heartbeat_on = now() - interval '1 minute' where state = 'active'")
    await takeBackSilent(jobs.database, [lane])
  }
  await claimAndFallSilent(jobs, once, 2)
  await sweep()
  for (const crashes of [2, 3]) {
    t.ok(await lane.claims.claimSuspect(killer))
    await sweep()
    t.match(await jobs.query('select crashes from accepted.suspect where job_id = $1', [killer]), [{ crashes }])
  }
  t.match(await jobs.read(killer), { state: 'failed', error: { code: 'worker-crashed' } })
})

t.test('a job to be canceled, and one that has ended, are not run again', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const canceled = await jobs.add(once, { word: 'a' })
  const ended = await jobs.add(once, { word: 'b' })
  await claimAndFallSilent(jobs, once, 2)
  await jobs.query("update accepted.job set state = 'running', cancel_requested = true where id = $1", [canceled])
  await jobs.query("update accepted.job set state = 'succeeded', ended_at = now() where id = $1", [ended])
  const { company, handlers } = watchfulHandlers()
  await jobs.work(handlers)
  t.match(await jobs.ended(canceled), { state: 'canceled', payload: { word: 'a' } })
  await until(async () => (await jobs.query("select from pgboss.job where state = 'completed'")).length === 2)
  t.equal(company.size, 0)
})

t.test(
  'a suspect that fails of its own accord, or is handed back, is charged as any other, or not at all',
  async (t) => {
    const jobs = await openJobs(t, [once, often])
    const id = await jobs.add(often, { word: 'a' })
    await claimAndFallSilent(jobs, often, 1)
    let runs = 0
    const hang = defineHandlers(operations, {
      'word.once': { perform: async () => {} },
      'word.often': {
        perform: async () => {
          runs += 1
          await new Promise(() => {})
        },
      },
    })
    const first = await jobs.work(hang, { graceSeconds: 0 })
    await until(() => runs === 1)
    await first.stop()
    t.match(await jobs.query('select state::text, blocked from pgboss.job'), [{ state: 'retry', blocked: true }])
    t.match(await jobs.query('select crashes from accepted.suspect'), [{ crashes: 1 }])
    t.match(await jobs.read(id), { state: 'queued', attempt: 2, max_attempts: 5 })
    await jobs.work(
      defineHandlers(operations, {
        'word.once': { perform: async () => {} },
        'word.often': {
          perform: async ({ attempt }) => {
            if (attempt < 3) throw new Error('no')
          },
        },
      }),
    )
    t.match(await jobs.ended(id), { state: 'succeeded', attempt: 3, max_attempts: 5 })
    t.same(await jobs.query('select attempt, error ->> $1 as code from accepted.attempt order by attempt', ['code']), [
      { attempt: 1, code: 'worker-lost' },
      { attempt: 2, code: 'handler-error' },
    ])
  },
)

t.test(
  'of several workers one stands back for a suspect; one that is canceled before its turn is forgotten',
  async (t) => {
    const jobs = await openJobs(t, [once, often])
    const canceled = await jobs.add(once, { word: 'a' })
    await jobs.query(
      "insert into accepted.suspect (job_id, operation, queue_id, crashes, reserved_until) values ($1, 'word.once', $1, 1, 'infinity')",
      [canceled],
    )
    await jobs.query('update pgboss.job set blocked = true')
    const suspect = await jobs.add(once, { word: 'b' })
    await jobs.query(
      "insert into accepted.suspect (job_id, operation, queue_id, crashes, crashed_at) values ($1, 'word.once', $1, 1, now() - interval '1 minute')",
      [suspect],
    )
    await jobs.query('update pgboss.job set blocked = true where id = $1', [suspect])
    const { company, handlers } = watchfulHandlers()
    await Promise.all(Array.from({ length: 4 }, () => jobs.work(handlers)))
    t.match(await jobs.ended(suspect), { state: 'succeeded', attempt: 1 })
    t.notOk(company.has(canceled), 'somebody else stands back for it')
    await jobs.database.kysely
      .transaction()
      .execute((trx) => cancelJob(jobs.boss, trx as unknown as AnyTransaction, { id: canceled, principal: 'ann' }))
    await forgetEndedSuspects(jobs.database)
    await until(async () => (await jobs.query('select from accepted.suspect')).length === 0)
  },
)

t.test('as long as a suspect has not waited for long, one process at a time stands back', async (t) => {
  const jobs = await openJobs(t, [once])
  const lane = laneOf(t, jobs, once)
  const stoodBack: string[] = []
  const loop = idleLoop(async (claims) => stoodBack.push(...claims.map(({ jobId }) => jobId)) > 0)
  const look = () => {
    const draining = new AbortController().signal
    return createSuspects({ database: jobs.database, lanes: [{ lane, loop }], draining, log: lane.log })()
  }
  const elsewhere = await jobs.add(once, { word: 'a' })
  const waiting = await jobs.add(once, { word: 'b' })
  for (const [id, reserved] of [
    [elsewhere, 'infinity'],
    [waiting, 'now'],
  ]) {
    await jobs.query(
      "insert into accepted.suspect (job_id, operation, queue_id, crashes, reserved_until) values ($1, 'word.once', $1, 1, $2)",
      [id, reserved],
    )
  }
  await jobs.query('update pgboss.job set blocked = true')
  await jobs.query("update accepted.suspect set crashed_at = now() + interval '1 hour'")
  await look()
  t.same(stoodBack, [])
  await jobs.query("update accepted.suspect set crashed_at = now() - interval '10 seconds'")
  await look()
  t.same(stoodBack, [], 'half of the workers stand back, at most')
  for (let worker = 0; worker < 4; worker++) {
    const listener = new pg.Client({
      connectionString: jobs.database.options.url,
      application_name: `${jobs.database.options.applicationName} listen`,
    })
    await listener.connect()
    t.teardown(() => listener.end())
  }
  await look()
  t.same(stoodBack, [waiting])
})

t.test('a suspect that is claimed just when the worker is to stop is handed back', async (t) => {
  const jobs = await openJobs(t, [once])
  const id = await jobs.add(once, { word: 'a' })
  await jobs.query(
    "insert into accepted.suspect (job_id, operation, queue_id, crashes) values ($1, 'word.once', $1, 1)",
    [id],
  )
  await jobs.query('update pgboss.job set blocked = true')
  const draining = new AbortController()
  const lane = laneOf(t, jobs, once)
  const claimSuspect: Lane['claims']['claimSuspect'] = async (queueId) => {
    const claim = await lane.claims.claimSuspect(queueId)
    draining.abort()
    return claim
  }
  const loop = idleLoop(async () => {
    throw new Error('It is run')
  })
  const lanes = [{ lane: { ...lane, claims: { ...lane.claims, claimSuspect } }, loop }]
  await createSuspects({ database: jobs.database, lanes, draining: draining.signal, log: lane.log })()
  t.match(await jobs.query('select state::text, blocked, retry_count from pgboss.job'), [
    { state: 'created', blocked: true, retry_count: 0 },
  ])
  t.match(await jobs.query('select job_id from accepted.suspect where reserved_until <= now()'), [{ job_id: id }])
})

t.test('a suspect that is put off runs again later; one that is taken back meanwhile is not forgotten', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const putOff = await jobs.add(once, { word: 'a' })
  const lost = await jobs.add(often, { word: 'b' })
  await claimAndFallSilent(jobs, once, 1)
  await claimAndFallSilent(jobs, often, 1)
  const holding = Promise.withResolvers<void>()
  t.teardown(() => holding.resolve())
  let runs = 0
  await jobs.work(
    defineHandlers(operations, {
      'word.once': {
        perform: async () => {
          if (++runs === 1) throw new RetryAfter(0)
        },
      },
      'word.often': { perform: () => holding.promise },
    }),
  )
  await until(async () => (await jobs.read(lost)).state === 'running')
  // As another worker does that finds this one silent.
  await jobs.query("update pgboss.job set state = 'retry', blocked = true, start_after = 'infinity' where id = $1", [
    lost,
  ])
  holding.resolve()
  t.match(await jobs.ended(putOff), { state: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select job_id, crashes from accepted.suspect'), [{ job_id: lost, crashes: 1 }])
})

t.test('Postgres that goes away from the statements of a perform spends no attempt', async (t) => {
  const jobs = await openJobs(t, [once, often])
  const id = await jobs.add(once, { word: 'a' })
  let runs = 0
  await jobs.work(
    defineHandlers(operations, ({ db }) => ({
      'word.once': {
        perform: async () => {
          if (++runs === 1) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(db)
        },
      },
      'word.often': { perform: async () => {} },
    })),
  )
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1, max_attempts: 1 })
})
