import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter, type SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { beginTransaction } from '../../support/database.ts'
import { type EffectTables, openJobs, writeEffects } from '../../support/jobs.ts'
import { startCommitBreaker } from '../../support/proxy.ts'
import { until } from '../../support/until.ts'

const Word = Type.Object({ word: Type.String() })
const operation = defineOperation({
  name: 'word.write',
  input: Word,
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})
const operations = { operation }

/** A statement that fails with an SQLSTATE. */
const raise = (sqlstate: string) => `do $$ begin raise exception using errcode = '${sqlstate}'; end $$`

/** The handler of one test waits for this promise in `perform`. */
let mayPerform = Promise.withResolvers<void>()

const words = Array.from({ length: 20 }, (_, index) => `word ${index}`)

for (const [failure, prepare, settle] of [
  [
    'throws',
    '',
    async (trx: Transaction<EffectTables>, jobs: SettlingJob<typeof operation>[]) => {
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
  t.test(`A batch with a job that ${failure} is bisected, and only that job loses its attempts`, async (t) => {
    const jobs = await openJobs(t, [operation])
    if (prepare) await jobs.query(prepare)
    const ids: string[] = []
    for (const word of words) ids.push(await jobs.add(operation, { word }))
    await jobs.work(defineHandlers(operations, { 'word.write': { settle } }))
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

t.test('Each job of a batch gets its own result, and a wrong number of results fails the batch', async (t) => {
  const shout = defineOperation({ name: 'word.shout', input: Word, result: Type.String(), retry: { limit: 0 } })
  const jobs = await openJobs(t, [shout])
  const ids = await Promise.all(['a', 'b', 'c'].map((word) => jobs.add(shout, { word })))
  const broken = await jobs.add(shout, { word: 'broken' }, { priority: -1 })
  await jobs.work(
    defineHandlers(
      { shout },
      {
        'word.shout': {
          settle: async (_trx, batch) =>
            batch.flatMap(({ payload: { word } }) => (word === 'broken' ? [] : [word.toUpperCase()])),
        },
      },
    ),
  )
  t.same(await Promise.all(ids.map(async (id) => (await jobs.ended(id)).result)), ['A', 'B', 'C'])
  t.match(await jobs.ended(broken), { status: 'failed', error: { message: /must return one result for each job/ } })
})

t.test(
  'The result comes from settle, or else from perform, and is stored only if the operation has a result schema',
  async (t) => {
    const kept = defineOperation({ name: 'word.kept', input: Word, result: Type.String() })
    const changed = defineOperation({ name: 'word.changed', input: Word, result: Type.String() })
    const none = defineOperation({ name: 'word.none', input: Word })
    const record = { kept, changed, none }
    const jobs = await openJobs(t, Object.values(record))
    const ids = [
      await jobs.add(kept, { word: 'a' }),
      await jobs.add(changed, { word: 'b' }),
      await jobs.add(none, { word: 'c' }),
    ]
    const resultsInSettle: unknown[] = []
    await jobs.work(
      defineHandlers(record, {
        'word.kept': { perform: async ({ payload }) => payload.word },
        'word.changed': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => batch.map(({ result }) => `${result}!`),
        },
        'word.none': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => void resultsInSettle.push(...batch.map(({ result }) => result)),
        },
      }),
    )
    t.same(await Promise.all(ids.map(async (id) => (await jobs.ended(id)).result)), ['a', 'b!', null])
    t.same(resultsInSettle, ['c'])
  },
)

t.test('A processed key that names the job itself, as after a restore, does not make it a duplicate', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'a' }, { idempotencyKey: 'k' })
  await jobs.query(
    "insert into accepted.processed_key (operation, principal, key, job_id) values ($1, 'ann', 'k', $2)",
    [operation.name, id],
  )
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: writeEffects } }))
  t.match(await jobs.ended(id), { status: 'succeeded' })
  t.match(await jobs.query('select job_id from effect'), [{ job_id: id }])
})

t.test('perform and settle can both set the resource', async (t) => {
  const found = defineOperation({ name: 'word.find', input: Word })
  const record = { found }
  const jobs = await openJobs(t, [found])
  const [a, b] = [await jobs.add(found, { word: 'a' }), await jobs.add(found, { word: 'b' })]
  await jobs.work(
    defineHandlers(record, {
      'word.find': {
        perform: async (job) => job.setResource(`/performed/${job.payload.word}`),
        settle: async (_trx, batch) => {
          for (const job of batch) if (job.payload.word === 'b') job.setResource('/settled/b')
        },
      },
    }),
  )
  t.equal((await jobs.ended(a)).resource, '/performed/a')
  t.equal((await jobs.ended(b)).resource, '/settled/b')
})

t.test('A job that settle enqueues commits or rolls back with the settle', async (t) => {
  const parent = defineOperation({ name: 'word.parent', input: Word, retry: { limit: 0 } })
  const record = { parent, operation }
  const jobs = await openJobs(t, Object.values(record))
  const good = await jobs.add(parent, { word: 'good' })
  const bad = await jobs.add(parent, { word: 'bad' })
  await jobs.work(
    defineHandlers(record, {
      'word.parent': {
        settle: async (trx, batch) => {
          for (const job of batch) await job.enqueue(trx, operation, job.payload, { key: job.id })
          if (batch.some(({ payload }) => payload.word === 'bad')) throw new Error('bad')
        },
      },
      'word.write': { settle: writeEffects },
    }),
  )
  t.match(await jobs.ended(bad), { status: 'failed' })
  t.match(await jobs.ended(good), { status: 'succeeded' })
  await until(async () => (await jobs.query('select from effect')).length > 0)
  const enqueued = await jobs.query(
    "select principal, idempotency_key from accepted.job where operation = 'word.write'",
  )
  t.same(enqueued, [{ principal: 'ann', idempotency_key: good }])
})

t.test('A batch runs again after a deadlock, a serialization failure and a lock timeout', async (t) => {
  const jobs = await openJobs(t, [operation])
  const sqlstates = ['40P01', '40001', '55P03']
  const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<EffectTables>, batch) => {
          await writeEffects(trx, batch)
          const sqlstate = sqlstates.shift()
          if (sqlstate) await sql.raw(raise(sqlstate)).execute(trx)
        },
      },
    }),
  )
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length)
  t.same(await jobs.query('select from accepted.attempt'), [], 'no attempt was spent')
})

t.test('A batch whose backend is terminated during settle runs again, and each effect happens once', async (t) => {
  const jobs = await openJobs(t, [operation])
  let terminations = 3
  const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<EffectTables>, batch) => {
          await writeEffects(trx, batch)
          if (terminations-- > 0) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
        },
      },
    }),
  )
  for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length)
  t.same(await jobs.query('select from accepted.attempt'), [], 'no attempt was spent')
})

t.test('JobFailed and RetryAfter in a batch affect only the jobs that cause them', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(operation, { word }))
  let hasThrownAlone = false
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<EffectTables>, batch) => {
          await writeEffects(trx, batch)
          if (batch.some(({ payload }) => payload.word === 'word 3')) throw new JobFailed('no', 'Not this one')
          if (hasThrownAlone || !batch.some(({ payload }) => payload.word === 'word 11')) return
          hasThrownAlone = batch.length === 1
          throw new RetryAfter(0)
        },
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

t.test('A job that is canceled before its batch runs is left out of the batch', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(operation, { word }))
  await jobs.query("update accepted.job set status = 'canceled', ended_at = now() where id = $1", [ids[7]])
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: writeEffects } }))
  for (const [index, id] of ids.entries()) {
    t.equal((await jobs.ended(id)).status, index === 7 ? 'canceled' : 'succeeded')
  }
  await until(async () => (await jobs.query('select from accepted_queue.job')).length === 0)
  t.equal((await jobs.query('select from effect')).length, words.length - 1)
  t.same(await jobs.query('select from effect where job_id = $1', [ids[7]]), [])
})

t.test(
  'A batch with a lost claim is bisected, only the lost job is rolled back, and no attempt is spent',
  async (t) => {
    const jobs = await openJobs(t, [operation])
    const ids: string[] = []
    for (const word of words) ids.push(await jobs.add(operation, { word }))
    let isLost = false
    const worker = await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<EffectTables>, batch) => {
            await writeEffects(trx, batch)
            if (isLost) return
            isLost = true
            // Another worker rescues the job and claims it.
            await jobs.query('update accepted_queue.job set retry_count = retry_count + 1 where id = $1', [ids[7]])
          },
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

t.test('A result that Postgres cannot store fails only its own job, whose effect is rolled back', async (t) => {
  const shout = defineOperation({ name: 'word.shout', input: Word, result: Type.String(), retry: { limit: 0 } })
  const jobs = await openJobs(t, [shout])
  const [good, bad] = [await jobs.add(shout, { word: 'good' }), await jobs.add(shout, { word: 'bad' })]
  await jobs.work(
    defineHandlers(
      { shout },
      {
        'word.shout': {
          settle: async (trx: Transaction<EffectTables>, batch) => {
            await writeEffects(trx, batch)
            return batch.map(({ payload: { word } }) => (word === 'bad' ? 'a\0b' : word))
          },
        },
      },
    ),
  )
  t.match(await jobs.ended(good), { status: 'succeeded', result: 'good' })
  t.match(await jobs.ended(bad), { status: 'failed', result: null })
  t.same(await jobs.query('select word from effect'), [{ word: 'good' }])
})

for (const [failure, statement] of [
  ['a serialization failure', raise('40001')],
  ['a deadlock', raise('40P01')],
  ['a lock timeout', raise('55P03')],
  ['the termination of its backend', 'select pg_terminate_backend(pg_backend_pid())'],
] as const) {
  t.test(`The settle of a single job runs again after ${failure}, and spends no attempt`, async (t) => {
    const jobs = await openJobs(t, [operation])
    const id = await jobs.add(operation, { word: 'x' })
    let failures = 2
    await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<EffectTables>, batch) => {
            await writeEffects(trx, batch)
            if (failures-- > 0) await sql.raw(statement).execute(trx)
          },
        },
      }),
    )
    t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
    t.same(await jobs.query('select from accepted.attempt'), [])
  })
}

t.test('A job that gets a full disk is deferred without spending an attempt, and other jobs run', async (t) => {
  const jobs = await openJobs(t, [operation])
  const large = await jobs.add(operation, { word: 'large' })
  let tryCount = 0
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<EffectTables>, batch) => {
          await writeEffects(trx, batch)
          if (batch.some(({ id }) => id === large)) {
            tryCount += 1
            await sql.raw(raise('53100')).execute(trx)
          }
        },
        batchSize: 1,
      },
    }),
  )
  await until(async () => {
    const [row] = await jobs.query('select state::text, start_after > created_on as deferred from accepted_queue.job')
    return row?.state === 'created' && row.deferred
  })
  t.ok(tryCount > 1, 'the settle was tried more than once')
  const other = await jobs.add(operation, { word: 'small' })
  t.match(await jobs.ended(other), { status: 'succeeded' })
  t.match(await jobs.read(large), { status: 'queued', attempt: 0 })
  t.same(await jobs.query('select from accepted.attempt'), [])
  t.same(await jobs.query('select word from effect'), [{ word: 'small' }])
})

t.test('A settle that waits for a lock fails at the timeout of the attempt', async (t) => {
  const hasty = defineOperation({ name: 'word.hasty', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
  const jobs = await openJobs(t, [hasty])
  await jobs.query("insert into effect values (gen_random_uuid(), 'locked')")
  await beginTransaction(t, jobs.database, "update effect set word = 'held'")
  const id = await jobs.add(hasty, { word: 'x' })
  await jobs.work(
    defineHandlers(
      { hasty },
      {
        'word.hasty': {
          settle: async (trx: Transaction<EffectTables>) => {
            await trx.updateTable('effect').set({ word: 'x' }).execute()
          },
        },
      },
    ),
  )
  t.match(await jobs.ended(id), { status: 'failed', error: { code: 'attempt-timeout' } })
})

for (const [phase, handler, isRunning] of [
  ['settles', { settle: writeEffects }, false],
  ['begins', { perform: async () => {}, settle: writeEffects, concurrency: words.length }, false],
  [
    'settles after perform',
    { perform: () => mayPerform.promise, settle: writeEffects, concurrency: words.length },
    true,
  ],
] as const) {
  t.test(`A job that is locked while its batch ${phase} does not delay the other jobs of the batch`, async (t) => {
    mayPerform = Promise.withResolvers()
    const jobs = await openJobs(t, [operation])
    const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
    const handlers = defineHandlers(operations, { 'word.write': handler })
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

t.test(
  'When the reply to the COMMIT of a settle is lost, each effect happens once and no attempt is spent',
  async (t) => {
    const jobs = await openJobs(t, [operation])
    const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
    const breaker = await startCommitBreaker(t, jobs.database.options.url, 'mark this transaction')
    const worker = await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<EffectTables>, batch) => {
            await writeEffects(trx, batch)
            await sql`select 'mark this transaction'`.execute(trx)
          },
        },
      }),
      { database: breaker.url },
    )
    for (const id of ids) t.match(await jobs.ended(id), { status: 'succeeded', attempt: 1 })
    await until(breaker.hasBroken)
    const next = await jobs.add(operation, { word: 'after' })
    t.match(await jobs.ended(next), { status: 'succeeded', attempt: 1 }, 'the worker runs the next job')
    t.equal((await jobs.query('select from effect')).length, words.length + 1)
    t.same(await jobs.query('select from accepted.attempt'), [])
    const metrics = await worker.metrics()
    t.match(metrics, `outcome="succeeded"} ${words.length + 1}`)
    t.notMatch(metrics, /outcome="lost"} [1-9]|reason="bisected"} [1-9]/)
  },
)

t.test('When the reply to the COMMIT of a failure is lost, the failure spends one attempt', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const breaker = await startCommitBreaker(t, jobs.database.options.url, 'insert into accepted.attempt')
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        perform: async ({ attempt }) => {
          if (attempt === 1) throw new Error('fails at first')
        },
        settle: writeEffects,
      },
    }),
    { database: breaker.url },
  )
  t.match(await jobs.ended(id), { status: 'succeeded', attempt: 2 })
  t.ok(breaker.hasBroken())
  t.same(await jobs.query('select attempt from accepted.attempt'), [{ attempt: 1 }])
  t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
  const metrics = await worker.metrics()
  t.match(metrics, /outcome="retried"} 1\b/)
  t.notMatch(metrics, /outcome="lost"} [1-9]/)
})

t.test('A second job with a key has an effect only after the first job has expired', async (t) => {
  const jobs = await openJobs(t, [operation])
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: writeEffects } }))
  const add = () => jobs.add(operation, { word: 'x' }, { idempotencyKey: 'k' })
  const first = await add()
  await jobs.ended(first)
  await jobs.ended(await add())
  t.equal((await jobs.query('select from effect')).length, 1)
  await jobs.query("update accepted.job set expires_at = now() - interval '1 second' where id = $1", [first])
  const third = await add()
  await jobs.ended(third)
  t.same(
    (await jobs.query('select job_id from effect')).map(({ job_id }) => job_id),
    [first, third],
  )
  t.same(await jobs.query('select job_id from accepted.processed_key'), [{ job_id: third }])
})
