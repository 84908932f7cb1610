import { defineOperation, refuse } from 'accepted'
import { sql, type Transaction } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { type AcceptEntry, accept } from '../../src/accept/accept.ts'
import { type CommitterOptions, createCommitter } from '../../src/accept/committer.ts'
import { openDatabase } from '../../src/db/database.ts'
import type { Job } from '../../src/jobs/job.ts'
import { noSeals } from '../../src/jobs/seals.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createKeyedMutex } from '../../src/primitives/keyed-mutex.ts'
import { beginTransaction, findBlockedBackends } from '../support/database.ts'
import { type EffectTables, openJobs, writeEffects } from '../support/jobs.ts'
import { startCommitBreaker } from '../support/proxy.ts'
import { until } from '../support/until.ts'

/** Some values of `word` make `accept` fail, wait or refuse the request. */
const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ word: Type.String() }),
  accept: async (trx: Transaction<EffectTables>, entries) => {
    await writeEffects(
      trx,
      entries.map(({ id, input }) => ({ id, payload: input })),
    )
    for (const { input } of entries) {
      if (input.word === 'bad') await sql`select 1 / 0`.execute(trx)
      if (input.word === 'locks') await sql`update account set balance = balance + 1`.execute(trx)
      if (input.word === 'slow') await sql`select pg_sleep(2.5)`.execute(trx)
      if (input.word === 'hangs') await hanging.promise
      if (input.word === 'late') late.resolve(async () => void (await sql`delete from effect`.execute(trx)))
      if (input.word === 'breaks' && terminations-- > 0)
        await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
    }
    return entries.map(({ input }) =>
      input.word === 'refused' ? refuse(409, 'unwanted', 'Not wanted') : { payload: input },
    )
  },
})
/** Resolved by a request with the word `late`: sends a statement through its transaction. */
let late = Promise.withResolvers<() => Promise<void>>()
/** How many more times a request with the word `breaks` terminates its backend. */
let terminations = 0
/** A request with the word `hangs` waits for this promise. */
let hanging = Promise.withResolvers<void>()

type CommitterTestOptions = { url?: string } & Pick<CommitterOptions, 'workTimeoutMs'>

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  await jobs.query('create table account (balance integer not null); insert into account values (0)')
  const openCommitter = ({ url = jobs.database.options.url, ...options }: CommitterTestOptions = {}) => {
    const database = openDatabase({ url })
    t.teardown(() => database.close())
    return createCommitter({ database, boss: jobs.boss, mutex: createKeyedMutex(), ...options })
  }
  const committer = openCommitter()
  const readEffects = async () => (await jobs.query('select word from effect order by word')).map(({ word }) => word)
  return { jobs, committer, openCommitter, readEffects }
}

const fingerprint = (fill: number) => Buffer.alloc(32, fill)

const entryOf = (word: string, more: Partial<AcceptEntry> = {}): AcceptEntry => ({
  ...{ id: uuid7(), operation: note, input: { word }, params: {}, principal: 'ann' },
  ...more,
})
const keyed = (key: string, word = 'x', fill = 0): AcceptEntry =>
  entryOf(word, { idempotency: { key, fingerprint: fingerprint(fill) } })

const kinds = (outcomes: readonly { kind: string }[]) => outcomes.map(({ kind }) => kind)

t.test('requests that arrive together share transactions', async (t) => {
  const { jobs, committer } = await setUp(t)
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => committer.submit(entryOf('x'))))
  t.same(new Set(kinds(outcomes)), new Set(['accepted']))
  // The first two requests start two transactions. While these transactions run, the other requests are batched.
  const [{ transactions }] = await jobs.query(
    'select count(distinct xmin::text)::integer as transactions from accepted.job',
  )
  t.ok(transactions <= 5, `${transactions} transactions accepted 200 requests`)
  t.match(await jobs.query('select count(*)::integer from effect'), [{ count: 200 }])
})

t.test('each request of a batch gets its own job', async (t) => {
  const { jobs, committer } = await setUp(t)
  const entries = Array.from({ length: 50 }, (_, n) => (n % 2 ? keyed(`k${n}`, `w${n}`) : entryOf(`w${n}`)))
  const outcomes = await Promise.all(entries.map(committer.submit))
  for (const [index, outcome] of outcomes.entries()) {
    const { id, input } = entries[index] as AcceptEntry
    t.match(outcome, { kind: 'accepted', job: { id } })
    t.match(await jobs.query("select data -> 'payload' as payload from accepted_queue.job where id = $1", [id]), [
      { payload: input as object },
    ])
  }
})

t.test('a request that fails or is refused does not affect the other requests of its batch', async (t) => {
  const { committer, readEffects } = await setUp(t)
  const words = Array.from({ length: 40 }, (_, n) => ({ 7: 'bad', 20: 'refused', 33: 'bad' })[n] ?? 'good')
  const outcomes = await Promise.allSettled(words.map((word) => committer.submit(entryOf(word))))
  for (const [index, outcome] of outcomes.entries()) {
    const expected = {
      good: { value: { kind: 'accepted' } },
      bad: { reason: { code: '22012' } },
      refused: { value: { kind: 'refused', refusal: { code: 'unwanted' } } },
    }[words[index] as 'good' | 'bad' | 'refused']
    t.match(outcome, expected)
  }
  t.same(await readEffects(), Array(37).fill('good'), 'the failed and refused requests have no effect')
})

for (const lockWait of ['wait', 'skip'] as const) {
  t.test(
    `when requests of a batch have the same key, only the first request becomes a job (lockWait: ${lockWait})`,
    async (t) => {
      const { jobs } = await setUp(t)
      const entries = [keyed('k'), keyed('k'), keyed('k', 'other', 1), keyed('l')]
      const outcomes = await jobs.database.kysely.transaction().execute(async (trx) => {
        const context = { boss: jobs.boss, seals: noSeals }
        const { outcomes, commit } = await accept(context, trx as unknown as AnyTransaction, entries, lockWait)
        await commit()
        return outcomes
      })
      const [first] = entries
      t.match(outcomes, [
        { kind: 'accepted', job: { id: first?.id } },
        { kind: 'replayed', jobId: first?.id },
        { kind: 'key-reused' },
        { kind: 'accepted' },
      ])
      t.match(await jobs.query('select count(*)::integer from effect'), [{ count: 2 }])
    },
  )
}

t.test('concurrent requests with the same key become one job, even in several processes', async (t) => {
  const { jobs, committer, openCommitter } = await setUp(t)
  const another = openCommitter()
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, (_, n) => (n % 2 ? committer : another).submit(keyed(`k${n % 3}`))),
  )
  t.equal(kinds(outcomes).filter((kind) => kind === 'accepted').length, 3)
  t.equal(kinds(outcomes).filter((kind) => kind === 'replayed').length, 57)
  t.match(await jobs.query('select count(*)::integer from accepted.job'), [{ count: 3 }])
})

t.test('a request waits for the transaction that holds its key; requests with other keys do not wait', async (t) => {
  const { jobs, committer } = await setUp(t)
  const { kysely } = jobs.database
  const mayCommit = Promise.withResolvers<void>()
  t.teardown(() => mayCommit.resolve())
  const first = keyed('held')
  const holdsKey = Promise.withResolvers<void>()
  const holder = kysely.transaction().execute(async (trx) => {
    const { commit } = await accept({ boss: jobs.boss, seals: noSeals }, trx as unknown as AnyTransaction, [first])
    holdsKey.resolve()
    await mayCommit.promise
    await commit()
  })
  await holdsKey.promise
  let isAnswered = false
  const duplicate = committer.submit(keyed('held')).finally(() => {
    isAnswered = true
  })
  const others = await Promise.all(Array.from({ length: 20 }, (_, n) => committer.submit(keyed(`free ${n}`))))
  t.same(new Set(kinds(others)), new Set(['accepted']))
  t.notOk(isAnswered)
  mayCommit.resolve()
  await holder
  t.match(await duplicate, { kind: 'replayed', jobId: first.id })
})

t.test('a locked row delays only the requests that need this row', async (t) => {
  const { jobs, committer, readEffects } = await setUp(t)
  const { commit } = await beginTransaction(t, jobs.database, 'update account set balance = 10')
  let answeredCount = 0
  const blocked = Array.from({ length: 3 }, () =>
    committer.submit(entryOf('locks')).finally(() => {
      answeredCount += 1
    }),
  )
  const others = await Promise.all(Array.from({ length: 20 }, () => committer.submit(entryOf('x'))))
  t.same(new Set(kinds(others)), new Set(['accepted']))
  // By now the committer accepts each blocked request in a separate transaction.
  await until(async () => (await findBlockedBackends(jobs.query, 'update account%')).length === 3)
  t.equal(answeredCount, 0)
  await commit()
  t.same(kinds(await Promise.all(blocked)), ['accepted', 'accepted', 'accepted'])
  t.match(await jobs.query('select balance from account'), [{ balance: 13 }])
  t.equal((await readEffects()).length, 23)
})

t.test('a slow or hanging request does not delay the other requests of its batch', async (t) => {
  const { committer, readEffects } = await setUp(t)
  hanging = Promise.withResolvers()
  const words = ['a', 'slow', 'b', 'hangs', 'c']
  const [a, slow, b, hangs, c] = words.map((word) => committer.submit(entryOf(word)))
  t.same(
    kinds(await Promise.all([a, b, c, slow].map((one) => one as NonNullable<typeof one>))),
    Array(4).fill('accepted'),
  )
  t.same(await readEffects(), ['a', 'b', 'c', 'slow'])
  hanging.resolve()
  t.match(await hangs, { kind: 'accepted' })
})

t.test('the statements of a request that is accepted alone have a timeout', async (t) => {
  const { jobs } = await setUp(t)
  const settings = await jobs.database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await accept({ boss: jobs.boss, seals: noSeals }, trx, [entryOf('x')])
    const { rows } = await sql`select current_setting('statement_timeout') as timeout`.execute(trx)
    return rows
  })
  t.same(settings, [{ timeout: '30s' }])
})

t.test('a request that waits too long behind hanging requests gets a 503', async (t) => {
  const { committer, readEffects } = await setUp(t)
  hanging = Promise.withResolvers()
  // At most four transactions with a single request run at the same time.
  const hangs = Array.from({ length: 4 }, () => committer.submit(entryOf('hangs')))
  const fifth = committer.submit(entryOf('hangs'))
  await t.rejects(fifth, { code: 'database-unavailable' })
  t.match(await committer.submit(entryOf('x')), { kind: 'accepted' })
  hanging.resolve()
  t.same(new Set(kinds(await Promise.all(hangs))), new Set(['accepted']))
  t.equal((await readEffects()).length, 5)
})

t.test('a request that cannot be stored in time gets a 503 and leaves nothing', async (t) => {
  const { jobs, committer, openCommitter, readEffects } = await setUp(t)
  hanging = Promise.withResolvers()
  const impatient = openCommitter({ workTimeoutMs: { skip: 100, wait: 200 } })
  await t.rejects(impatient.submit(entryOf('hangs')), { status: 503, code: 'database-unavailable' })
  hanging.resolve()
  t.match(await committer.submit(entryOf('x')), { kind: 'accepted' })
  t.same(await readEffects(), ['x'])
  t.match(await jobs.query('select count(*)::integer from accepted.job'), [{ count: 1 }])
})

t.test('a batch whose connection breaks runs again, and each request gets one job', async (t) => {
  const { jobs, committer, readEffects } = await setUp(t)
  terminations = 1
  const outcomes = await Promise.all(['x', 'breaks', 'y'].map((word) => committer.submit(entryOf(word))))
  t.same(kinds(outcomes), ['accepted', 'accepted', 'accepted'])
  t.same(await readEffects(), ['breaks', 'x', 'y'])
  t.match(await jobs.query('select count(*)::integer from accepted_queue.job'), [{ count: 3 }])
})

t.test('when the reply to the COMMIT of a batch is lost, each request is accepted once', async (t) => {
  const { jobs, openCommitter, readEffects } = await setUp(t)
  const breaker = await startCommitBreaker(t, jobs.database.options.url, 'insert into accepted.job')
  const committer = openCommitter({ url: breaker.url })
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => committer.submit(entryOf('x'))))
  t.same(kinds(outcomes), Array(20).fill('accepted'))
  t.ok(breaker.hasBroken())
  t.equal((await readEffects()).length, 20)
  const stored = await jobs.query('select id, created_at, updated_at, expires_at from accepted.job')
  t.equal(stored.length, 20)
  const answered = new Map(outcomes.map((outcome) => [(outcome as { job: Job }).job.id, (outcome as { job: Job }).job]))
  for (const row of stored) t.match(answered.get(row.id), row)
})

t.test('a request is accepted once although its COMMIT takes longer than its work may take', async (t) => {
  const { jobs, openCommitter, readEffects } = await setUp(t)
  await jobs.query(`
    create function wait() returns trigger language plpgsql as 'begin perform pg_sleep(1); return null; end';
    create constraint trigger wait after insert on effect deferrable initially deferred for each row execute function wait()`)
  const committer = openCommitter({ workTimeoutMs: { skip: 500, wait: 30_000 } })
  t.match(await committer.submit(entryOf('x')), { kind: 'accepted' })
  t.same(await readEffects(), ['x'])
  t.match(await jobs.query('select count(*)::integer from accepted.job'), [{ count: 1 }])
})

for (const end of ['commits', 'fails']) {
  t.test(`a statement that accept sends while the COMMIT ${end} is rejected`, async (t) => {
    const { jobs, committer, readEffects } = await setUp(t)
    await committer.submit(entryOf('before'))
    await jobs.query(`
      create function wait() returns trigger language plpgsql as $$
        begin
          perform set_config('lock_timeout', '0', true);
          perform pg_advisory_xact_lock(1);
          if '${end}' = 'fails' then raise exception 'unwanted'; end if;
          return null;
        end $$;
      create constraint trigger wait after insert on effect deferrable initially deferred for each row execute function wait()`)
    const { commit } = await beginTransaction(t, jobs.database, 'select pg_advisory_xact_lock(1)')
    late = Promise.withResolvers()
    const accepted = committer.submit(entryOf('late')).catch(({ message }) => message)
    const send = await late.promise
    await until(async () => (await findBlockedBackends(jobs.query, 'commit%')).length === 1)
    const rejected = t.rejects(send(), { message: /^The transaction has ended/ })
    await commit()
    t.match(await accepted, end === 'commits' ? { kind: 'accepted' } : 'unwanted')
    await rejected
    t.same(await readEffects(), end === 'commits' ? ['before', 'late'] : ['before'])
  })
}

t.test('a division by zero of the app during COMMIT is not taken for a missing queue', async (t) => {
  const { jobs, committer } = await setUp(t)
  await jobs.query(`
    create function divide() returns trigger language plpgsql as 'begin perform 1 / (select 0); end';
    create constraint trigger divide after insert on effect deferrable initially deferred for each row execute function divide()`)
  await t.rejects(committer.submit(entryOf('x')), { code: '22012' })
})

t.test('when the queue of an operation is missing, its requests fail, and nothing of them is stored', async (t) => {
  const { jobs, committer, readEffects } = await setUp(t)
  await committer.submit(entryOf('before'))
  await jobs.query("delete from accepted_queue.job; delete from accepted_queue.queue where name = 'note.create'")
  await t.rejects(committer.submit(keyed('k')), { message: /^The queue 'note.create' is missing/ })
  t.same(await readEffects(), ['before'])
  t.match(await jobs.query('select count(*)::integer from accepted.idempotency_key'), [{ count: 0 }])
})

t.test('while Postgres is down, all 10,300 waiting requests are rejected', async (t) => {
  const { openCommitter } = await setUp(t)
  const committer = openCommitter({ url: 'postgres://127.0.0.1:1/missing' })
  const outcomes = await Promise.allSettled(Array.from({ length: 10_300 }, () => committer.submit(entryOf('x'))))
  const reasons = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'accepted'))
  t.same(new Set(reasons), new Set(['ECONNREFUSED', 'database-unavailable']))
  t.equal(reasons.at(-1), 'database-unavailable')
})
