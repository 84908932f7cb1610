import { defineOperation } from 'accepted'
import { JobFailed, RetryAfter, type SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import { pino } from 'pino'
import t from 'tap'
import Type from 'typebox'
import { beginTransaction } from '../../support/database.ts'
import { type EffectTables, openJobs, writeEffects } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'
import { handlersFor, Word } from '../support.ts'

const write = defineOperation({
  name: 'word.write',
  input: Word,
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})

const words = Array.from({ length: 20 }, (_, index) => `word ${index}`)

/** Returns a statement that fails with this SQLSTATE. */
const raise = (sqlstate: string) => `do $$ begin raise exception using errcode = '${sqlstate}'; end $$`

for (const [failure, prepare, settle] of [
  [
    'throws',
    '',
    async (trx: Transaction<EffectTables>, jobs: SettlingJob<typeof write>[]) => {
      await writeEffects(trx, jobs)
      if (jobs.some(({ payload }) => payload.word === 'word 7')) throw new Error('not this one')
    },
  ],
  ['violates a constraint', "alter table effect add constraint not_seven check (word <> 'word 7')", writeEffects],
  [
    'violates a deferred constraint',
    `create function refuse() returns trigger language plpgsql as $$ begin
       if new.word = 'word 7' then raise exception 'not this one'; end if; return new; end $$;
     create constraint trigger refuse after insert on effect deferrable initially deferred
       for each row execute function refuse();`,
    writeEffects,
  ],
] as const) {
  t.test(`a batch with a job that ${failure} is bisected, and only that job uses up its attempts`, async (t) => {
    const jobs = await openJobs(t, [write])
    if (prepare) await jobs.query(prepare)
    const ids: string[] = []
    for (const word of words) ids.push(await jobs.add(write, { word }))
    await jobs.work(handlersFor(write, { settle }))
    for (const [index, id] of ids.entries()) {
      t.match(
        await jobs.ended(id),
        index === 7 ? { status: 'failed', attempt: 2 } : { status: 'succeeded', attempt: 1 },
      )
    }
    const effects = await jobs.query('select word from effect')
    t.same(effects.map(({ word }) => word).sort(), words.filter((word) => word !== 'word 7').sort())
  })
}

t.test('JobFailed and RetryAfter in a batch affect only the jobs that cause them', async (t) => {
  const jobs = await openJobs(t, [write])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(write, { word }))
  let hasThrownAlone = false
  await jobs.work(
    handlersFor(write, {
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        if (batch.some(({ payload }) => payload.word === 'word 3')) throw new JobFailed('no', 'Not this one')
        if (hasThrownAlone || !batch.some(({ payload }) => payload.word === 'word 11')) return
        hasThrownAlone = batch.length === 1
        throw new RetryAfter(0)
      },
    }),
  )
  for (const [index, id] of ids.entries()) {
    t.match(
      await jobs.ended(id),
      index === 3 ? { status: 'failed', attempt: 1, error: { code: 'no' } } : { status: 'succeeded', attempt: 1 },
    )
  }
  t.ok(hasThrownAlone)
  const effects = await jobs.query('select word from effect')
  t.same(effects.map(({ word }) => word).sort(), words.filter((word) => word !== 'word 3').sort())
})

t.test(
  'a result that Postgres cannot store fails only its own job, and the effect of that job is rolled back',
  async (t) => {
    const shout = defineOperation({ name: 'word.shout', input: Word, result: Type.String(), retry: { limit: 0 } })
    const jobs = await openJobs(t, [shout])
    const [good, bad] = [await jobs.add(shout, { word: 'good' }), await jobs.add(shout, { word: 'bad' })]
    await jobs.work(
      handlersFor(shout, {
        settle: async (trx, batch) => {
          await writeEffects(trx, batch)
          return batch.map(({ payload: { word } }) => (word === 'bad' ? 'a\0b' : word))
        },
      }),
    )
    t.match(await jobs.ended(good), { status: 'succeeded', result: 'good' })
    t.match(await jobs.ended(bad), { status: 'failed', result: null })
    t.same(await jobs.query('select word from effect'), [{ word: 'good' }])
  },
)

t.test('an error that Postgres cannot store is replaced by a general error', async (t) => {
  const jobs = await openJobs(t, [write])
  await jobs.query("alter table accepted.attempt add constraint tame check (error ->> 'message' <> 'wild')")
  const id = await jobs.add(write, { word: 'x' })
  await jobs.work(
    handlersFor(write, {
      perform: async ({ attempt }) => {
        if (attempt === 1) throw new Error('wild')
      },
    }),
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2 })
  t.match(await jobs.query('select attempt, error from accepted.attempt'), [
    { attempt: 1, error: { code: 'handler-error', message: /could not be stored/ } },
  ])
})

t.test(
  'a batch with a lost claim is bisected: only the job of that claim is rolled back, and no attempt is used up',
  async (t) => {
    const jobs = await openJobs(t, [write])
    const ids: string[] = []
    for (const word of words) ids.push(await jobs.add(write, { word }))
    let isLost = false
    const worker = await jobs.work(
      handlersFor(write, {
        settle: async (trx, batch) => {
          await writeEffects(trx, batch)
          if (isLost) return
          isLost = true
          // Another worker writes this when it rescues the job and claims it.
          await jobs.query('update accepted_queue.job set retry_count = retry_count + 1 where id = $1', [ids[7]])
        },
      }),
    )
    for (const id of ids) if (id !== ids[7]) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    await worker.stop()
    t.match(await jobs.read(ids[7] as string), { status: 'queued', attempt: 0 })
    t.equal((await jobs.query('select from effect')).length, words.length - 1)
    t.same(await jobs.query('select from effect where job_id = $1', [ids[7]]), [])
    t.same(await jobs.query('select from accepted.attempt'), [])
  },
)

t.test('a batch runs again after a deadlock, a serialization failure or a lock timeout', async (t) => {
  const jobs = await openJobs(t, [write])
  const sqlstates = ['40P01', '40001', '55P03']
  const ids = await Promise.all(words.map((word) => jobs.add(write, { word })))
  await jobs.work(
    handlersFor(write, {
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        const sqlstate = sqlstates.shift()
        if (sqlstate) await sql.raw(raise(sqlstate)).execute(trx)
      },
    }),
  )
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length)
  t.same(await jobs.query('select from accepted.attempt'), [], 'no attempt was used up')
})

t.test('a batch whose backend is terminated during settle runs again, and each effect happens once', async (t) => {
  const jobs = await openJobs(t, [write])
  let terminations = 3
  const ids = await Promise.all(words.map((word) => jobs.add(write, { word })))
  await jobs.work(
    handlersFor(write, {
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        if (terminations-- > 0) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
      },
    }),
  )
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length)
  t.same(await jobs.query('select from accepted.attempt'), [], 'no attempt was used up')
})

for (const [failure, statement] of [
  ['a serialization failure', raise('40001')],
  ['a deadlock', raise('40P01')],
  ['a lock timeout', raise('55P03')],
  ['the termination of its backend', 'select pg_terminate_backend(pg_backend_pid())'],
] as const) {
  t.test(`the settle of a single job runs again after ${failure}, and uses up no attempt`, async (t) => {
    const jobs = await openJobs(t, [write])
    const id = await jobs.add(write, { word: 'x' })
    let failures = 2
    await jobs.work(
      handlersFor(write, {
        settle: async (trx, batch) => {
          await writeEffects(trx, batch)
          if (failures-- > 0) await sql.raw(statement).execute(trx)
        },
      }),
    )
    t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
    t.same(await jobs.query('select from accepted.attempt'), [])
  })
}

t.test('a job whose settle fills the disk is deferred without using up an attempt, and other jobs run', async (t) => {
  const jobs = await openJobs(t, [write])
  const large = await jobs.add(write, { word: 'large' })
  let tryCount = 0
  await jobs.work(
    handlersFor(write, {
      settle: async (trx, batch) => {
        await writeEffects(trx, batch)
        if (batch.some(({ id }) => id === large)) {
          tryCount += 1
          await sql.raw(raise('53100')).execute(trx)
        }
      },
      batchSize: 1,
    }),
  )
  await until(async () => {
    const [row] = await jobs.query('select state::text, start_after > created_on as deferred from accepted_queue.job')
    return row?.state === 'created' && row.deferred
  })
  t.ok(tryCount > 1, 'the settle was tried more than once')
  const other = await jobs.add(write, { word: 'small' })
  t.match(await jobs.ended(other), { status: 'succeeded' })
  t.match(await jobs.read(large), { status: 'queued', attempt: 0 })
  t.same(await jobs.query('select from accepted.attempt'), [])
  t.same(await jobs.query('select word from effect'), [{ word: 'small' }])
})

/** In one test, `perform` waits for this promise. */
let mayPerform = Promise.withResolvers<void>()

for (const [phase, handler, isRunning] of [
  ['settles', { settle: writeEffects }, false],
  ['begins', { perform: async () => {}, settle: writeEffects, concurrency: words.length }, false],
  [
    'settles after perform',
    { perform: () => mayPerform.promise, settle: writeEffects, concurrency: words.length },
    true,
  ],
] as const) {
  t.test(`a job that is locked while its batch ${phase} does not delay the other jobs of the batch`, async (t) => {
    mayPerform = Promise.withResolvers()
    const jobs = await openJobs(t, [write])
    const ids = await Promise.all(words.map((word) => jobs.add(write, { word })))
    const handlers = handlersFor(write, handler)
    const worker = isRunning ? await jobs.work(handlers) : undefined
    if (isRunning)
      await until(async () => (await jobs.query("select from accepted.job where status <> 'running'")).length === 0)
    const locked = ids[7] as string
    const holder = await beginTransaction(
      t,
      jobs.database,
      `update accepted.job set message = 'by hand' where id = '${locked}'`,
    )
    mayPerform.resolve()
    const { metrics } = worker ?? (await jobs.work(handlers))
    for (const id of ids.filter((id) => id !== locked))
      t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    t.not((await jobs.read(locked)).status, 'succeeded')
    await holder.commit()
    t.match(await jobs.ended(locked), { status: 'succeeded', attempt: 1, message: 'by hand' })
    t.equal((await jobs.query('select from effect')).length, words.length)
    t.same(await jobs.query('select from accepted.attempt'), [])
    t.match(await metrics(), `outcome="succeeded"} ${words.length}`)
  })
}

t.test('at the level debug, each completed attempt is logged with its duration', async (t) => {
  const jobs = await openJobs(t, [write])
  const lines: Record<string, unknown>[] = []
  const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) })
  await jobs.work(handlersFor(write, { settle: async () => {} }), { log })
  const id = await jobs.add(write, { word: 'x' })
  await jobs.ended(id)
  const entry = await until(() => lines.find(({ msg }) => msg === 'Attempt completed'))
  t.match(entry, { level: 20, operation: write.name, job: id, attempt: 1, ms: Number })
})
