import { defineOperation } from 'accepted'
import { defineHandlers, JobFailed, RetryAfter, type SettlingJob } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../support/jobs.ts'
import { breakCommit } from '../support/proxy.ts'
import { until } from '../support/until.ts'

interface Tables {
  effect: { job_id: string; word: string }
}

const Word = Type.Object({ word: Type.String() })
const operation = defineOperation({
  name: 'word.write',
  input: Word,
  retry: { limit: 1, delaySeconds: 0, backoff: false },
})
const operations = { operation }

const write = async (trx: Transaction<Tables>, jobs: SettlingJob<typeof operation>[]) => {
  await trx
    .insertInto('effect')
    .values(jobs.map(({ id, payload }) => ({ job_id: id, word: payload.word })))
    .execute()
}

/** What some wait for in their perform. */
let opened = Promise.withResolvers<void>()

const words = Array.from({ length: 20 }, (_, index) => `word ${index}`)

for (const [what, prepare, settle] of [
  [
    'throws',
    '',
    async (trx: Transaction<Tables>, jobs: SettlingJob<typeof operation>[]) => {
      await write(trx, jobs)
      if (jobs.some(({ payload }) => payload.word === 'word 7')) throw new Error('not this one')
    },
  ],
  ['violates a constraint', "alter table effect add constraint not_seven check (word <> 'word 7')", write],
  [
    'violates a deferred constraint',
    `create function refuse() returns trigger language plpgsql as $$ begin
       if new.word = 'word 7' then raise exception 'not this one'; end if; return new; end $$;
     create constraint trigger refuse after insert on effect deferrable initially deferred
       for each row execute function refuse();`,
    write,
  ],
] as const) {
  t.test(`in a batch, a job that ${what} fails alone; its neighbours succeed, once, uncharged`, async (t) => {
    const jobs = await openJobs(t, [operation])
    if (prepare) await jobs.query(prepare)
    const ids: string[] = []
    for (const word of words) ids.push(await jobs.add(operation, { word }))
    await jobs.work(defineHandlers(operations, { 'word.write': { settle } }))
    for (const [index, id] of ids.entries()) {
      t.match(await jobs.ended(id), index === 7 ? { state: 'failed', attempt: 2 } : { state: 'succeeded', attempt: 1 })
    }
    const effects = await jobs.query('select word from effect')
    t.same(effects.map(({ word }) => word).sort(), words.filter((word) => word !== 'word 7').sort())
  })
}

t.test('results are kept in the order of the jobs, and a wrong number of them is an error', async (t) => {
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
  t.match(await jobs.ended(broken), { state: 'failed', error: { message: /must return a result for every job/ } })
})

t.test(
  'what perform returned is the result, unless settle returns another; without a schema none is kept',
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
    const seen: unknown[] = []
    await jobs.work(
      defineHandlers(record, {
        'word.kept': { perform: async ({ payload }) => payload.word },
        'word.changed': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => batch.map(({ result }) => `${result}!`),
        },
        'word.none': {
          perform: async ({ payload }) => payload.word,
          settle: async (_trx, batch) => void seen.push(...batch.map(({ result }) => result)),
        },
      }),
    )
    t.same(await Promise.all(ids.map(async (id) => (await jobs.ended(id)).result)), ['a', 'b!', null])
    t.same(seen, ['c'])
  },
)

t.test('a key that is the job’s own already, restored with it for example, is no duplicate', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'a' }, { idempotencyKey: 'k' })
  await jobs.query(
    "insert into accepted.processed_key (operation, principal, key, job_id) values ($1, 'ann', 'k', $2)",
    [operation.name, id],
  )
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: write } }))
  t.match(await jobs.ended(id), { state: 'succeeded' })
  t.match(await jobs.query('select job_id from effect'), [{ job_id: id }])
})

t.test('the resource may be named by perform or by settle', async (t) => {
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

t.test('a follow-up job is there when the settle has committed, and only then', async (t) => {
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
      'word.write': { settle: write },
    }),
  )
  t.match(await jobs.ended(bad), { state: 'failed' })
  t.match(await jobs.ended(good), { state: 'succeeded' })
  await until(async () => (await jobs.query('select from effect')).length > 0)
  const followUps = await jobs.query(
    "select principal, idempotency_key from accepted.job where operation = 'word.write'",
  )
  t.same(followUps, [{ principal: 'ann', idempotency_key: good }])
})

t.test('a deadlock, a serialization failure and a lock timeout run again and charge nobody', async (t) => {
  const jobs = await openJobs(t, [operation])
  let left = ['40P01', '40001', '55P03']
  const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<Tables>, batch) => {
          await write(trx, batch)
          const [state, ...rest] = left
          left = rest
          if (state) await sql.raw(`do $$ begin raise exception using errcode = '${state}'; end $$`).execute(trx)
        },
      },
    }),
  )
  for (const id of ids) t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length)
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test(
  'a backend that is terminated in the middle of a settle charges nobody, and the effect is there once',
  async (t) => {
    const jobs = await openJobs(t, [operation])
    let terminations = 3
    const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
    await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<Tables>, batch) => {
            await write(trx, batch)
            if (terminations-- > 0) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
          },
        },
      }),
    )
    for (const id of ids) t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
    t.equal((await jobs.query('select from effect')).length, words.length)
    t.same(await jobs.query('select from accepted.attempt'), [])
  },
)

t.test('JobFailed and RetryAfter in a batch concern those alone who threw them', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(operation, { word }))
  let waited = false
  await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<Tables>, batch) => {
          await write(trx, batch)
          if (batch.some(({ payload }) => payload.word === 'word 3')) throw new JobFailed('no', 'Not this one')
          if (waited || !batch.some(({ payload }) => payload.word === 'word 11')) return
          waited = batch.length === 1
          throw new RetryAfter(0)
        },
      },
    }),
  )
  for (const [index, id] of ids.entries()) {
    t.match(
      await jobs.ended(id),
      index === 3 ? { state: 'failed', attempt: 1, error: { code: 'no' } } : { state: 'succeeded', attempt: 1 },
    )
  }
  t.ok(waited)
  const effects = await jobs.query('select word from effect')
  t.same(effects.map(({ word }) => word).sort(), words.filter((word) => word !== 'word 3').sort())
})

t.test('what was canceled before its batch drops out of it', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(operation, { word }))
  await jobs.query("update accepted.job set state = 'canceled', ended_at = now() where id = $1", [ids[7]])
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: write } }))
  for (const [index, id] of ids.entries()) {
    t.equal((await jobs.ended(id)).state, index === 7 ? 'canceled' : 'succeeded')
  }
  await until(async () => (await jobs.query("select from pgboss.job where state <> 'completed'")).length === 0)
  t.equal((await jobs.query('select from effect')).length, words.length - 1)
  t.same(await jobs.query('select from effect where job_id = $1', [ids[7]]), [])
})

t.test('a claim that was lost out of a batch is rolled back alone, and charged to nobody', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids: string[] = []
  for (const word of words) ids.push(await jobs.add(operation, { word }))
  let lost = false
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<Tables>, batch) => {
          await write(trx, batch)
          if (lost) return
          lost = true
          // What a sweep and another worker's claim leave behind.
          await jobs.query('update pgboss.job set retry_count = retry_count + 1 where id = $1', [ids[7]])
        },
      },
    }),
  )
  for (const id of ids) if (id !== ids[7]) t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
  await worker.stop()
  t.match(await jobs.read(ids[7] as string), { state: 'queued', attempt: 0 })
  t.equal((await jobs.query('select from effect')).length, words.length - 1)
  t.same(await jobs.query('select from effect where job_id = $1', [ids[7]]), [])
  t.same(await jobs.query('select from accepted.attempt'), [])
})

t.test('a result that Postgres cannot keep fails its job alone, with its effect', async (t) => {
  const shout = defineOperation({ name: 'word.shout', input: Word, result: Type.String(), retry: { limit: 0 } })
  const jobs = await openJobs(t, [shout])
  const [good, bad] = [await jobs.add(shout, { word: 'good' }), await jobs.add(shout, { word: 'bad' })]
  await jobs.work(
    defineHandlers(
      { shout },
      {
        'word.shout': {
          settle: async (trx: Transaction<Tables>, batch) => {
            for (const { id, payload } of batch)
              await trx
                .insertInto('effect')
                .values({ job_id: id, ...payload })
                .execute()
            return batch.map(({ payload: { word } }) => (word === 'bad' ? 'a\0b' : word))
          },
        },
      },
    ),
  )
  t.match(await jobs.ended(good), { state: 'succeeded', result: 'good' })
  t.match(await jobs.ended(bad), { state: 'failed', result: null })
  t.same(await jobs.query('select word from effect'), [{ word: 'good' }])
})

const raise = (code: string) => `do $$ begin raise exception using errcode = '${code}'; end $$`

for (const [what, statement] of [
  ['a serialization failure', raise('40001')],
  ['a deadlock', raise('40P01')],
  ['a lock timeout', raise('55P03')],
  ['a terminated backend', 'select pg_terminate_backend(pg_backend_pid())'],
] as const) {
  t.test(`${what} in the settle of a lone job charges nobody`, async (t) => {
    const jobs = await openJobs(t, [operation])
    const id = await jobs.add(operation, { word: 'x' })
    let failures = 2
    await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<Tables>, batch) => {
            await write(trx, batch)
            if (failures-- > 0) await sql.raw(statement).execute(trx)
          },
        },
      }),
    )
    t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
    t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
    t.same(await jobs.query('select from accepted.attempt'), [])
  })
}

t.test(
  'a disk that is full for one job keeps it waiting, charges it nothing, and leaves room for others',
  async (t) => {
    const jobs = await openJobs(t, [operation])
    const full = await jobs.add(operation, { word: 'full' })
    let tries = 0
    await jobs.work(
      defineHandlers(operations, {
        'word.write': {
          settle: async (trx: Transaction<Tables>, batch) => {
            await write(trx, batch)
            if (batch.some(({ id }) => id === full)) {
              tries += 1
              await sql.raw(raise('53100')).execute(trx)
            }
          },
          batchSize: 1,
        },
      }),
    )
    // Put off, and taken up again.
    await until(async () => {
      const [row] = await jobs.query('select state::text, start_after > created_on as later from pgboss.job')
      return row?.state === 'created' && row.later
    })
    t.ok(tries > 1)
    const other = await jobs.add(operation, { word: 'small' })
    t.match(await jobs.ended(other), { state: 'succeeded' })
    t.match(await jobs.read(full), { state: 'queued', attempt: 0 })
    t.same(await jobs.query('select from accepted.attempt'), [])
    t.same(await jobs.query('select word from effect'), [{ word: 'small' }])
  },
)

t.test('a settle that waits for a lock ends when its time is over, and not when the lock is free', async (t) => {
  const hasty = defineOperation({ name: 'word.hasty', input: Word, timeoutSeconds: 1, retry: { limit: 0 } })
  const jobs = await openJobs(t, [hasty])
  await jobs.query("insert into effect values (gen_random_uuid(), 'locked')")
  const holder = await jobs.database.pool.connect()
  t.teardown(() => holder.release(true))
  await holder.query("begin; update effect set word = 'held'")
  const id = await jobs.add(hasty, { word: 'x' })
  await jobs.work(
    defineHandlers(
      { hasty },
      {
        'word.hasty': {
          settle: async (trx: Transaction<Tables>) => {
            await trx.updateTable('effect').set({ word: 'x' }).execute()
          },
        },
      },
    ),
  )
  t.match(await jobs.ended(id), { state: 'failed', error: { code: 'attempt-timeout' } })
})

for (const [what, handler, isBegun] of [
  ['settled', { settle: write }, false],
  ['begun', { perform: async () => {}, settle: write, concurrency: words.length }, false],
  ['performed', { perform: () => opened.promise, settle: write, concurrency: words.length }, true],
] as const) {
  t.test(`who has a job locked that is to be ${what} with others keeps only that one waiting`, async (t) => {
    opened = Promise.withResolvers()
    const jobs = await openJobs(t, [operation])
    const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
    const handlers = defineHandlers(operations, { 'word.write': handler })
    const worker = isBegun ? await jobs.work(handlers) : undefined
    if (isBegun)
      await until(async () => (await jobs.query("select from accepted.job where state <> 'running'")).length === 0)
    const locked = ids[7] as string
    const holder = await jobs.database.pool.connect()
    t.teardown(() => holder.release(true))
    await holder.query('begin')
    await holder.query("update accepted.job set message = 'by hand' where id = $1", [locked])
    opened.resolve()
    const { metrics } = worker ?? (await jobs.work(handlers))
    for (const id of ids.filter((id) => id !== locked))
      t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
    t.not((await jobs.read(locked)).state, 'succeeded')
    await holder.query('commit')
    t.match(await jobs.ended(locked), { state: 'succeeded', attempt: 1, message: 'by hand' })
    t.equal((await jobs.query('select from effect')).length, words.length)
    t.same(await jobs.query('select from accepted.attempt'), [])
    t.match(await metrics(), `outcome="succeeded"} ${words.length}`)
  })
}

t.test('a commit whose answer is lost on the way: every effect is there once, and nobody is charged', async (t) => {
  const jobs = await openJobs(t, [operation])
  const ids = await Promise.all(words.map((word) => jobs.add(operation, { word })))
  const way = await breakCommit(t, jobs.database.options.url, 'select as the last word')
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        settle: async (trx: Transaction<Tables>, batch) => {
          await write(trx, batch)
          await sql`select 'select as the last word'`.execute(trx)
        },
      },
    }),
    { database: way.url },
  )
  for (const id of ids) t.match(await jobs.ended(id), { state: 'succeeded', attempt: 1 })
  await until(way.broken)
  // The worker is none the worse for it.
  t.match(await jobs.ended(await jobs.add(operation, { word: 'after' })), { state: 'succeeded', attempt: 1 })
  t.equal((await jobs.query('select from effect')).length, words.length + 1)
  t.same(await jobs.query('select from accepted.attempt'), [])
  const metrics = await worker.metrics()
  t.match(metrics, `outcome="succeeded"} ${words.length + 1}`)
  t.notMatch(metrics, /outcome="lost"} [1-9]|reason="bisected"} [1-9]/)
})

t.test('a failure whose commit is lost on the way is charged once', async (t) => {
  const jobs = await openJobs(t, [operation])
  const id = await jobs.add(operation, { word: 'x' })
  const way = await breakCommit(t, jobs.database.options.url, 'insert into accepted.attempt')
  const worker = await jobs.work(
    defineHandlers(operations, {
      'word.write': {
        perform: async ({ attempt }) => {
          if (attempt === 1) throw new Error('not at first')
        },
        settle: write,
      },
    }),
    { database: way.url },
  )
  t.match(await jobs.ended(id), { state: 'succeeded', attempt: 2 })
  t.ok(way.broken())
  t.same(await jobs.query('select attempt from accepted.attempt'), [{ attempt: 1 }])
  t.same(await jobs.query('select word from effect'), [{ word: 'x' }])
  const metrics = await worker.metrics()
  t.match(metrics, /outcome="retried"} 1\b/)
  t.notMatch(metrics, /outcome="lost"} [1-9]/)
})

t.test('a key whose record has expired has its effect again, and only then', async (t) => {
  const jobs = await openJobs(t, [operation])
  await jobs.work(defineHandlers(operations, { 'word.write': { settle: write } }))
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
