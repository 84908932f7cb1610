import { defineOperation, refuse } from 'accepted'
import { sql, type Transaction } from 'kysely'
import type pg from 'pg'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { type AcceptEntry, accept } from '../../src/accept/accept.ts'
import { createCommitter } from '../../src/accept/committer.ts'
import { createTurns } from '../../src/accept/turns.ts'
import { openDatabase } from '../../src/db/database.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { openJobs } from '../support/jobs.ts'
import { breakCommit } from '../support/proxy.ts'
import { until } from '../support/until.ts'

type Tables = { effect: { job_id: string; word: string } }

/** Its word says what becomes of a request. */
const note = defineOperation({
  name: 'note.create',
  route: { method: 'POST', url: '/notes' },
  input: Type.Object({ word: Type.String() }),
  accept: async (trx: Transaction<Tables>, entries) => {
    await trx
      .insertInto('effect')
      .values(entries.map(({ id, input }) => ({ job_id: id, word: input.word })))
      .execute()
    for (const { input } of entries) {
      if (input.word === 'bad') await sql`select 1 / 0`.execute(trx)
      if (input.word === 'locks') await sql`update account set balance = balance + 1`.execute(trx)
      if (input.word === 'slow') await sql`select pg_sleep(2.5)`.execute(trx)
      if (input.word === 'hangs') await hanging.promise
      if (input.word === 'breaks' && breaks-- > 0) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx)
    }
    return entries.map(({ input }) =>
      input.word === 'refused' ? refuse(409, 'unwanted', 'It is not wanted') : { payload: input },
    )
  },
})
/** How often the connection breaks yet. */
let breaks = 0
/** What those wait for that hang. */
let hanging = Promise.withResolvers<void>()

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  await jobs.query('create table account (balance integer not null); insert into account values (0)')
  const make = (options: { poolSize?: number; url?: string } = {}) => {
    const database = openDatabase({ url: jobs.database.options.url, ...options })
    t.teardown(() => database.close())
    return createCommitter({ database, boss: jobs.boss, turns: createTurns() })
  }
  const committer = make()
  const effects = async () => (await jobs.query('select word from effect order by word')).map(({ word }) => word)
  return { jobs, committer, make, effects }
}

const fingerprint = (fill: number) => Buffer.alloc(32, fill)

const entryOf = (word: string, more: Partial<AcceptEntry> = {}): AcceptEntry => ({
  ...{ id: uuid7(), operation: note, input: { word }, params: {}, principal: 'ann' },
  ...more,
})
const keyed = (key: string, word = 'x', fill = 0): AcceptEntry =>
  entryOf(word, { idempotency: { key, fingerprint: fingerprint(fill) } })

const kinds = (outcomes: readonly { kind: string }[]) => outcomes.map(({ kind }) => kind)

/** A transaction of somebody else's, that is rolled back at the end at the latest. */
async function begin(t: Test, { pool }: { pool: pg.Pool }) {
  const client = await pool.connect()
  let isOver = false
  t.teardown(() => client.release(!isOver))
  await client.query('begin')
  return {
    client,
    async commit() {
      await client.query('commit')
      isOver = true
    },
  }
}

t.test('requests that come together commit together, and a lone one at once', async (t) => {
  const { jobs, committer } = await setUp(t)
  const outcomes = await Promise.all(Array.from({ length: 200 }, () => committer.submit(entryOf('x'))))
  t.same(new Set(kinds(outcomes)), new Set(['accepted']))
  // Two that found nothing before them, and those that waited meanwhile.
  const [{ transactions }] = await jobs.query(
    'select count(distinct xmin::text)::integer as transactions from accepted.job',
  )
  t.ok(transactions <= 5, `${transactions}`)
  t.match(await jobs.query('select count(*)::integer from effect'), [{ count: 200 }])
})

t.test('each request gets its own job, in whatever company it came', async (t) => {
  const { jobs, committer } = await setUp(t)
  const entries = Array.from({ length: 50 }, (_, n) => (n % 2 ? keyed(`k${n}`, `w${n}`) : entryOf(`w${n}`)))
  const outcomes = await Promise.all(entries.map(committer.submit))
  for (const [index, outcome] of outcomes.entries()) {
    const { id, input } = entries[index] as AcceptEntry
    t.match(outcome, { kind: 'accepted', job: { id } })
    t.match(await jobs.query("select data -> 'payload' as payload from pgboss.job where id = $1", [id]), [
      { payload: input as object },
    ])
  }
})

t.test('one that fails, fails alone; one that is refused leaves nothing', async (t) => {
  const { committer, effects } = await setUp(t)
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
  t.same(await effects(), Array(37).fill('good'))
})

for (const whenHeld of ['wait', 'skip'] as const) {
  t.test(`of requests with one key in one batch the first counts (${whenHeld})`, async (t) => {
    const { jobs } = await setUp(t)
    const entries = [keyed('k'), keyed('k'), keyed('k', 'other', 1), keyed('l')]
    const outcomes = await jobs.database.kysely
      .transaction()
      .execute((trx) => accept(jobs.boss, trx as unknown as AnyTransaction, entries, whenHeld))
    const [first] = entries
    t.match(outcomes, [
      { kind: 'accepted', job: { id: first?.id } },
      { kind: 'replayed', jobId: first?.id },
      { kind: 'key-reused' },
      { kind: 'accepted' },
    ])
    t.match(await jobs.query('select count(*)::integer from effect'), [{ count: 2 }])
  })
}

t.test('requests with one key that come together are one job', async (t) => {
  const { jobs, committer, make } = await setUp(t)
  const another = make()
  const outcomes = await Promise.all(
    Array.from({ length: 60 }, (_, n) => (n % 2 ? committer : another).submit(keyed(`k${n % 3}`))),
  )
  t.equal(kinds(outcomes).filter((kind) => kind === 'accepted').length, 3)
  t.equal(kinds(outcomes).filter((kind) => kind === 'replayed').length, 57)
  t.match(await jobs.query('select count(*)::integer from accepted.job'), [{ count: 3 }])
})

t.test('a key that somebody holds keeps nobody else waiting, and is found when he has committed', async (t) => {
  const { jobs, committer } = await setUp(t)
  const { kysely } = jobs.database
  const committing = Promise.withResolvers<void>()
  t.teardown(() => committing.resolve())
  const mine = keyed('held')
  const holding = Promise.withResolvers<void>()
  const first = kysely.transaction().execute(async (trx) => {
    await accept(jobs.boss, trx as unknown as AnyTransaction, [mine])
    holding.resolve()
    await committing.promise
  })
  await holding.promise
  let isAnswered = false
  const held = committer.submit(keyed('held')).finally(() => {
    isAnswered = true
  })
  const others = await Promise.all(Array.from({ length: 20 }, (_, n) => committer.submit(keyed(`free ${n}`))))
  t.same(new Set(kinds(others)), new Set(['accepted']))
  t.notOk(isAnswered)
  committing.resolve()
  await first
  t.match(await held, { kind: 'replayed', jobId: mine.id })
})

t.test('a row that somebody has locked keeps only those waiting who want it', async (t) => {
  const { jobs, committer, effects } = await setUp(t)
  const { client, commit } = await begin(t, jobs.database)
  await client.query('update account set balance = 10')
  let areAnswered = 0
  const stuck = Array.from({ length: 3 }, () =>
    committer.submit(entryOf('locks')).finally(() => {
      areAnswered += 1
    }),
  )
  const others = await Promise.all(Array.from({ length: 20 }, () => committer.submit(entryOf('x'))))
  t.same(new Set(kinds(others)), new Set(['accepted']))
  // By itself it waits without an end of its own.
  await until(async () => {
    const waiting = await jobs.query(`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and query like 'update account%'`)
    return waiting.length === 3
  })
  t.equal(areAnswered, 0)
  await commit()
  t.same(kinds(await Promise.all(stuck)), ['accepted', 'accepted', 'accepted'])
  t.match(await jobs.query('select balance from account'), [{ balance: 13 }])
  t.equal((await effects()).length, 23)
})

t.test('one that takes long, or for ever, keeps the others of its batch waiting for a moment only', async (t) => {
  const { committer, effects } = await setUp(t)
  hanging = Promise.withResolvers()
  const words = ['a', 'slow', 'b', 'hangs', 'c']
  const [a, slow, b, hangs, c] = words.map((word) => committer.submit(entryOf(word)))
  t.same(
    kinds(await Promise.all([a, b, c, slow].map((one) => one as NonNullable<typeof one>))),
    Array(4).fill('accepted'),
  )
  t.same(await effects(), ['a', 'b', 'c', 'slow'])
  hanging.resolve()
  t.match(await hangs, { kind: 'accepted' })
})

t.test('no statement of one that is accepted alone takes for ever', async (t) => {
  const { jobs } = await setUp(t)
  const settings = await jobs.database.kysely.transaction().execute(async (kyselyTrx) => {
    const trx = kyselyTrx as unknown as AnyTransaction
    await accept(jobs.boss, trx, [entryOf('x')])
    const { rows } = await sql`select current_setting('statement_timeout') as most`.execute(trx)
    return rows
  })
  t.same(settings, [{ most: '30s' }])
})

t.test('who waits behind those that hang is told to come again', async (t) => {
  const { committer, effects } = await setUp(t)
  hanging = Promise.withResolvers()
  // All that may be accepted alone at once.
  const hangs = Array.from({ length: 4 }, () => committer.submit(entryOf('hangs')))
  const fifth = committer.submit(entryOf('hangs'))
  await t.rejects(fifth, { code: 'database-unavailable' })
  t.match(await committer.submit(entryOf('x')), { kind: 'accepted' })
  hanging.resolve()
  t.same(new Set(kinds(await Promise.all(hangs))), new Set(['accepted']))
  t.equal((await effects()).length, 5)
})

t.test('a connection that breaks in the middle of a batch: it runs again, and everyone has one job', async (t) => {
  const { jobs, committer, effects } = await setUp(t)
  breaks = 1
  const outcomes = await Promise.all(['x', 'breaks', 'y'].map((word) => committer.submit(entryOf(word))))
  t.same(kinds(outcomes), ['accepted', 'accepted', 'accepted'])
  t.same(await effects(), ['breaks', 'x', 'y'])
  t.match(await jobs.query('select count(*)::integer from pgboss.job'), [{ count: 3 }])
})

t.test('the COMMIT of a batch whose answer is lost on the way has happened, once, and everyone is told', async (t) => {
  const { jobs, make, effects } = await setUp(t)
  const way = await breakCommit(t, jobs.database.options.url, 'insert into accepted.job')
  const committer = make({ url: way.url })
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => committer.submit(entryOf('x'))))
  t.same(kinds(outcomes), Array(20).fill('accepted'))
  t.ok(way.broken())
  t.equal((await effects()).length, 20)
  t.match(await jobs.query('select count(*)::integer from accepted.job'), [{ count: 20 }])
})

t.test('a database that is away refuses everyone who waits, and more than can wait at once', async (t) => {
  const { make } = await setUp(t)
  const committer = make({ url: 'postgres://127.0.0.1:1/nobody' })
  const outcomes = await Promise.allSettled(Array.from({ length: 10_300 }, () => committer.submit(entryOf('x'))))
  const reasons = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'accepted'))
  t.same(new Set(reasons), new Set(['ECONNREFUSED', 'database-unavailable']))
  t.equal(reasons.at(-1), 'database-unavailable')
})
