import { defineOperation, type Entry, refuse } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { sql, type Transaction } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { accept } from '../../src/accept/accept.ts'
import { createCommitter } from '../../src/accept/committer.ts'
import type { AcceptEntry } from '../../src/accept/entry.ts'
import type { Committed } from '../../src/accept/pending-request.ts'
import { openDatabase } from '../../src/db/database.ts'
import { noSeals } from '../../src/jobs/seals.ts'
import { createEndpoint } from '../../src/jobs/webhook-endpoint.ts'
import type { AnyTransaction, Operation } from '../../src/operation.ts'
import { createKeyedMutex } from '../../src/primitives/keyed-mutex.ts'
import { asRole, beginTransaction, findBlockedBackends } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { startCommitBreaker } from '../support/proxy.ts'
import { until } from '../support/until.ts'

const Input = Type.Object({ key: Type.String(), word: Type.String() })
type Input = Type.Static<typeof Input>

interface Tables {
  /** One row per call of an `accept`, in the order of the calls. */
  accepted_entry: { job_id: string; word: string; replaces: string | null }
}

/** A request with the word `hangs` resolves the first promise, and waits in `accept` for the second. */
let [hangs, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]

/** Records its entries, and refuses the word `refused`. */
async function record(trx: Transaction<Tables>, entries: Entry<Input, unknown, Input>[]) {
  const rows = entries.map(({ id, input, replaces }) => {
    return { job_id: id, word: input.word, replaces: replaces ? replaces.word : null }
  })
  await trx.insertInto('accepted_entry').values(rows).execute()
  if (rows.some(({ word }) => word === 'hangs')) {
    hangs.resolve()
    await mayEnd.promise
  }
  return entries.map(({ input }) =>
    input.word === 'refused'
      ? refuse(409, 'unwanted', 'Not wanted')
      : { payload: input, resource: `/notes/${input.word}` },
  )
}

const route = { method: 'POST', url: '/notes' } as const
const key = (input: Input) => input.key
const group = ({ word }: Input) => `group ${word}`
const common = { route, input: Input, accept: record, retry: { limit: 0 } }
const first = defineOperation({
  ...{ ...common, name: 'note.first' },
  coalesce: { key, forSeconds: 3_600, mode: 'first' },
})
const last = defineOperation({
  ...{ ...common, name: 'note.last', group },
  coalesce: { key, forSeconds: 3_600, mode: 'last' },
})
const bare = defineOperation({
  ...{ name: 'note.bare', route, input: Input },
  coalesce: { key, forSeconds: 3_600, mode: 'last' },
})
const plain = defineOperation({ name: 'note.plain', route, input: Input, accept: record })
const operations = [first, last, bare, plain]

async function setUp(t: Test) {
  const jobs = await openJobs(t, operations)
  const { url } = jobs.database.options
  await jobs.query(`
    create table accepted_entry (position bigserial, job_id uuid not null, word text not null, replaces text)`)
  /** Opens the committer of an API process. */
  const openCommitter = (databaseUrl = url) => {
    const database = openDatabase({ url: asRole(databaseUrl, 'api') })
    t.teardown(() => database.close())
    return createCommitter({ database, boss: jobs.boss, mutex: createKeyedMutex() })
  }
  const committer = openCommitter()
  const submit = async (operation: Operation, key: string, word: string, more: Partial<AcceptEntry> = {}) =>
    idOf(await committer.submit(entryOf(operation, key, word, more)))
  const readQueued = async (id: string) =>
    (await jobs.query('select data, group_id, start_after, state from accepted_queue.job where id = $1', [id]))[0]
  const readEntries = (id: string) =>
    jobs.query('select word, replaces from accepted_entry where job_id = $1 order by position', [id])
  const makeDue = (operation: Operation) =>
    jobs.query(`update accepted_queue.job set start_after = now() where name = $1 and state = 'created'`, [
      operation.name,
    ])
  const claim = (operation: Operation) =>
    jobs.query(`select id from accepted.claim($1, 100, '-infinity')`, [operation.name])
  return { jobs, url, openCommitter, committer, submit, readQueued, readEntries, makeDue, claim }
}

const entryOf = (operation: Operation, key: string, word: string, more: Partial<AcceptEntry> = {}): AcceptEntry => ({
  ...{ id: uuid7(), operation, input: { key, word }, params: {}, principal: 'ann' },
  ...more,
})

/** Returns the id of the job that a request got. */
function idOf(outcome: Committed): string {
  if (outcome.kind === 'replayed') return outcome.jobId
  if (outcome.kind === 'accepted' || outcome.kind === 'coalesced') return outcome.job.id
  throw new Error(`The request was answered with ${JSON.stringify(outcome)}`)
}

const idempotency = (key: string) => ({ idempotency: { key, fingerprint: Buffer.alloc(32) } })

t.test('first: later requests of the window get the job of the first request, and write nothing', async (t) => {
  const { jobs, committer, submit, readEntries, claim } = await setUp(t)
  const outcome = await committer.submit(entryOf(first, 'k', 'one'))
  t.match(outcome, { kind: 'accepted', job: { coalesced: 0, sequence: '1' } })
  const id = idOf(outcome)
  const later = await committer.submit(entryOf(first, 'k', 'two'))
  t.match(later, { kind: 'coalesced', job: { id, coalesced: 1, sequence: '2', resource: '/notes/one' } })
  t.equal((await claim(first)).length, 1, 'the job is due at once')
  await jobs.query(`update accepted.job set status = 'running' where id = $1`, [id])
  t.equal(await submit(first, 'k', 'three'), id, 'a running job is shared')
  await jobs.query(`update accepted.job set status = 'succeeded', ended_at = now() where id = $1`, [id])
  t.equal(await submit(first, 'k', 'four'), id, 'a job that has succeeded is shared')
  t.match(await jobs.read(id), { coalesced: 3, resource: '/notes/one', run_at: null })
  t.same(await readEntries(id), [{ word: 'one', replaces: null }])

  await jobs.query('update accepted.coalesced_key set ends_at = now()')
  const next = await submit(first, 'k', 'five')
  t.not(next, id, 'the window has ended')
  t.match(await jobs.read(next), { coalesced: 0 })
  t.match(await jobs.query('select * from accepted.coalesced_key'), [{ key: 'k', job_id: next }])
})

t.test('first: a job that does not do the work is not shared', async (t) => {
  const { jobs, submit } = await setUp(t)
  const end = `ended_at = now(), expires_at = now() + interval '1 day'`
  for (const [name, change] of [
    ['failed', `status = 'failed', error = '{}', ${end}`],
    ['canceled', `status = 'canceled', cancel_requested = true, ${end}`],
    ['asked to cancel', `status = 'running', cancel_requested = true`],
    ['expired', `status = 'succeeded', ended_at = now(), expires_at = now()`],
  ] as const) {
    const id = await submit(first, name, 'one')
    await jobs.query(`update accepted.job set ${change} where id = $1`, [id])
    const next = await submit(first, name, 'two')
    t.not(next, id, name)
    t.equal(await submit(first, name, 'three'), next, `${name}: the window of the new job`)
  }
})

t.test('last: the job runs at the end of the window, with the payload of the last request', async (t) => {
  const { jobs, committer, submit, readQueued, readEntries } = await setUp(t)
  const id = await submit(last, 'k', 'one')
  const [{ ends_at: endsAt }] = await jobs.query('select ends_at from accepted.coalesced_key')
  const { created_at: createdAt, run_at: runAt, expires_at: expiresAt } = await jobs.read(id)
  t.same(runAt, endsAt)
  t.ok(Math.abs(endsAt - createdAt - 3_600_000) < 60_000, 'the window lasts forSeconds')
  t.match(await readQueued(id), { start_after: endsAt, group_id: 'group one' })
  await committer.submit(entryOf(last, 'k', 'refused')).then((outcome) => t.match(outcome, { kind: 'refused' }))
  t.match(await jobs.read(id), { coalesced: 0, sequence: '1', resource: '/notes/one' })

  const later = await committer.submit(entryOf(last, 'k', 'two'))
  t.match(later, { kind: 'coalesced', job: { id, coalesced: 1, sequence: '2', resource: '/notes/two' } })
  t.match(await jobs.read(id), { group_id: 'group two', run_at: endsAt, expires_at: expiresAt })
  t.match(await readQueued(id), {
    data: { job: id, payload: { word: 'two' } },
    start_after: endsAt,
    group_id: 'group two',
  })
  t.same(await readEntries(id), [
    { word: 'one', replaces: null },
    { word: 'two', replaces: 'one' },
  ])

  await jobs.query('select accepted.cancel($1)', [id])
  const [{ retry }] = await jobs.query('select accepted.retry($1) as retry', [id])
  t.match(await readQueued(retry), { data: { payload: { word: 'two' } } }, 'a retry has the last payload')
  t.match(await jobs.read(retry), { coalesced: 0 })
  t.not(await submit(last, 'k', 'three'), id, 'a canceled job is not shared')
})

t.test('last: a job that was claimed keeps its payload, and the next request gets a new job', async (t) => {
  const { jobs, submit, readQueued, makeDue, claim } = await setUp(t)
  for (const [name, change] of [
    ['claimed', 'select'],
    ['asked to cancel', `update accepted.job set cancel_requested = true where status = 'queued'`],
    [
      'released after it had begun',
      `with released as (update accepted_queue.job set state = 'created', started_on = null where state = 'active')
      update accepted.job set started_at = now() where status = 'queued'`,
    ],
  ] as const) {
    const id = await submit(last, name, 'one')
    await makeDue(last)
    if (name !== 'asked to cancel') t.same(await claim(last), [{ id }])
    await jobs.query(change)
    const next = await submit(last, name, 'two')
    t.not(next, id, name)
    t.match(await readQueued(id), { data: { payload: { word: 'one' } } })
    t.match(await readQueued(next), { data: { payload: { word: 'two' } }, state: 'created' })
    await jobs.query(`delete from accepted_queue.job where name = 'note.last'`)
  }
})

t.test('last: while a request replaces the payload, no worker claims the job', async (t) => {
  const { submit, readQueued, readEntries, makeDue, claim } = await setUp(t)
  const id = await submit(last, 'k', 'one')
  await makeDue(last)
  hangs = Promise.withResolvers()
  mayEnd = Promise.withResolvers()
  const later = submit(last, 'k', 'hangs')
  await hangs.promise
  t.same(await claim(last), [])
  mayEnd.resolve()
  t.equal(await later, id)
  t.equal((await readEntries(id)).length, 2)
  t.same(await claim(last), [{ id }])
  t.match(await readQueued(id), { data: { payload: { word: 'hangs' } } })
})

for (const end of ['commit', 'rollback'] as const) {
  t.test(`last: a request waits for a claim, and finds out whether the worker has the job (${end})`, async (t) => {
    const { jobs, submit, readQueued, makeDue } = await setUp(t)
    const id = await submit(last, 'k', 'one')
    await makeDue(last)
    const claiming = `select from accepted.claim('note.last', 1, '-infinity')`
    const { client } = await beginTransaction(t, jobs.database, claiming)
    const later = submit(last, 'k', 'two')
    await until(async () => (await findBlockedBackends(jobs.query, '%take_coalescing_keys%')).length === 1)
    await client.query(end)
    t.equal((await later) === id, end === 'rollback')
    t.match(await readQueued(id), { data: { payload: { word: end === 'rollback' ? 'two' : 'one' } } })
    t.match(await readQueued(await later), { data: { payload: { word: 'two' } }, state: 'created' })
  })
}

t.test('requests share a job only within a principal, an operation and a key', async (t) => {
  const { jobs, committer, submit } = await setUp(t)
  const ids = await Promise.all([
    submit(first, 'k', 'x'),
    submit(first, 'k', 'x', { principal: 'bob' }),
    submit(first, 'l', 'x'),
    submit(last, 'k', 'x'),
    submit(plain, 'k', 'x'),
    submit(plain, 'k', 'x'),
  ])
  t.equal(new Set(ids).size, 6)
  t.match(await jobs.query('select count(*)::int from accepted.coalesced_key'), [{ count: 4 }])
  t.match(await committer.submit(entryOf(first, 'k', 'y')), { kind: 'coalesced', job: { id: ids[0] } })
})

for (const lockWait of ['wait', 'skip'] as const) {
  t.test(`requests of one batch are coalesced as if they had come one by one (lockWait: ${lockWait})`, async (t) => {
    const { jobs, readQueued, readEntries } = await setUp(t)
    const run = (entries: AcceptEntry[]) =>
      jobs.database.kysely.transaction().execute(async (trx) => {
        const context = { boss: jobs.boss, seals: noSeals }
        const { outcomes, commit } = await accept(context, trx as unknown as AnyTransaction, entries, lockWait)
        await commit()
        return outcomes
      })
    for (const operation of [first, last, bare]) {
      const entry = (word: string, more?: Partial<AcceptEntry>) =>
        entryOf(operation, 'k', word, { coalescingKey: 'k', ...more })
      const entries = [
        entry('one', idempotency(`${operation.name} 1`)),
        entryOf(operation, 'other', 'other', { coalescingKey: 'other' }),
        entry('two', idempotency(`${operation.name} 2`)),
        entry('replay', idempotency(`${operation.name} 2`)),
        entryOf(plain, 'k', 'plain'),
        entry('three'),
      ]
      const id = entries[0]?.id as string
      const job = { id, coalesced: 2 }
      t.match(await run(entries), [
        { kind: 'accepted', job },
        { kind: 'accepted', job: { id: entries[1]?.id, coalesced: 0 } },
        { kind: 'coalesced', job },
        { kind: 'replayed', jobId: id },
        { kind: 'accepted', job: { id: entries[4]?.id } },
        { kind: 'coalesced', job },
      ])
      const more = [entry('replay', idempotency(`${operation.name} 2`)), entry('four'), entry('five')]
      const all = { id, coalesced: 4 }
      t.match(await run(more), [
        { kind: 'replayed', jobId: id },
        { kind: 'coalesced', job: all },
        { kind: 'coalesced', job: all },
      ])
      t.match(await readQueued(id), { data: { payload: { word: operation === first ? 'one' : 'five' } } })
      const words = { 'note.first': ['one'], 'note.last': ['one', 'two', 'three', 'four', 'five'], 'note.bare': [] }
      const expected = (words[operation.name as keyof typeof words] as string[]).map((word, index, all) => {
        return { word, replaces: all[index - 1] ?? null }
      })
      t.same(await readEntries(id), expected, `the calls of accept of ${operation.name}`)
    }
  })
}

t.test('a refusal refuses only that request of a batch, also if it is the first of its window', async (t) => {
  const { committer, jobs, readQueued, readEntries } = await setUp(t)
  for (const operation of [first, last]) {
    const words = ['refused', 'a', 'refused', 'b', 'refused', 'c', 'refused']
    const outcomes = await Promise.all(words.map((word) => committer.submit(entryOf(operation, 'k', word))))
    const isRefused = outcomes.map(({ kind }) => kind === 'refused')
    // With the mode `first`, the operation does not see a request that only gets the job.
    if (operation === last) t.same(isRefused, [true, false, true, false, true, false, true])
    else t.ok(isRefused.every((refused, index) => !refused || words[index] === 'refused'))
    const answered = outcomes.filter(({ kind }) => kind !== 'refused')
    const ids = [...new Set(answered.map(idOf))]
    t.equal(ids.length, 1)
    const [id] = ids as [string]
    t.match(await jobs.read(id), { coalesced: answered.length - 1 })
    t.match(await readQueued(id), { data: { payload: { word: (await readEntries(id)).at(-1).word } } })
  }
  t.same(await jobs.query(`select from accepted_entry where word = 'refused'`), [])
})

t.test('a new idempotency key belongs to the shared job, and its replay is not counted', async (t) => {
  const { committer, jobs, submit } = await setUp(t)
  const id = await submit(first, 'k', 'one', idempotency('one'))
  t.equal(await submit(first, 'k', 'two', idempotency('two')), id)
  for (const used of ['one', 'two', 'two']) {
    t.match(await committer.submit(entryOf(first, 'k', 'two', idempotency(used))), { kind: 'replayed', jobId: id })
  }
  const other = { idempotency: { key: 'two', fingerprint: Buffer.alloc(32, 1) } }
  t.match(await committer.submit(entryOf(first, 'l', 'x', other)), { kind: 'key-reused' })
  t.match(await jobs.read(id), { coalesced: 1, idempotency_key: 'one' })
  t.match(await jobs.query('select key, job_id from accepted.idempotency_key order by key'), [
    { key: 'one', job_id: id },
    { key: 'two', job_id: id },
  ])
})

t.test('if requests that share a job name different webhook endpoints, no endpoint is left out', async (t) => {
  const { jobs, submit } = await setUp(t)
  const [a, b] = await jobs.database.kysely
    .transaction()
    .execute(async (trx) => [
      await createEndpoint(trx as never, { url: 'http://127.0.0.1:11999/a' }),
      await createEndpoint(trx as never, { url: 'http://127.0.0.1:11999/b' }),
    ])
  const named = (endpoint: typeof a) => ({ webhookEndpointId: endpoint?.id })
  const id = await submit(last, 'k', 'x', named(a))
  await submit(last, 'k', 'x', named(a))
  t.match(await jobs.read(id), { webhook_endpoint_id: a?.id })
  await submit(last, 'k', 'x', named(b))
  t.match(await jobs.read(id), { webhook_endpoint_id: null })
})

t.test('a request waits while another transaction has locked its job; other requests do not wait', async (t) => {
  const { jobs, committer, submit } = await setUp(t)
  const id = await submit(first, 'k', 'one')
  const { commit } = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${id}' for update`)
  let isAnswered = false
  const blocked = committer.submit(entryOf(first, 'k', 'two', idempotency('two'))).finally(() => {
    isAnswered = true
  })
  const others = await Promise.all(Array.from({ length: 10 }, (_, n) => submit(first, `other ${n}`, 'x')))
  t.equal(new Set(others).size, 10)
  await until(async () => (await findBlockedBackends(jobs.query, '%take_coalescing_keys%')).length === 1)
  t.notOk(isAnswered)
  await commit()
  t.match(await blocked, { kind: 'coalesced', job: { id, coalesced: 1 } })
  t.match(await jobs.query(`select job_id from accepted.idempotency_key where key = 'two'`), [{ job_id: id }])
})

t.test('a request whose job stays locked gets 503 and is not counted, and its key stays unused', async (t) => {
  const { jobs, committer, submit } = await setUp(t)
  const id = await submit(first, 'k', 'one')
  const { commit } = await beginTransaction(t, jobs.database, `select from accepted.job where id = '${id}' for update`)
  const locked = committer.submit(entryOf(first, 'k', 'two', idempotency('two')))
  await t.rejects(locked, { status: 503, code: 'job-locked', retryAfterSeconds: 1 })
  await commit()
  const other = { idempotency: { key: 'two', fingerprint: Buffer.alloc(32, 1) } }
  t.match(await committer.submit(entryOf(first, 'k', 'x', other)), { kind: 'coalesced', job: { id, coalesced: 1 } })
})

t.test('requests of busy windows share transactions, in one process and in several', async (t) => {
  const { jobs, openCommitter, committer } = await setUp(t)
  const both = [committer, openCommitter()]
  const count = 1_000
  for (const [committers, windows] of [
    [[committer], 20],
    [both, 1],
  ] as const) {
    await jobs.query('truncate accepted.change')
    const outcomes = await Promise.all(
      Array.from({ length: count }, (_, n) =>
        (committers[n % committers.length] as typeof committer).submit(
          entryOf(first, `${windows} ${n % windows}`, 'x'),
        ),
      ),
    )
    const ids = new Set(outcomes.map(idOf))
    t.equal(ids.size, windows)
    for (const id of ids) t.match(await jobs.read(id), { coalesced: count / windows - 1 })
    const [{ transactions }] = await jobs.query('select count(distinct xid)::int as transactions from accepted.change')
    t.ok(transactions <= 40, `${transactions} transactions for ${count} requests of ${windows} windows`)
  }
})

t.test('when the reply to a COMMIT is lost, each request is counted once', async (t) => {
  const { jobs, url, openCommitter, submit } = await setUp(t)
  const id = await submit(last, 'k', 'one')
  const breaker = await startCommitBreaker(t, url, 'coalesce_requests')
  const committer = openCommitter(breaker.url)
  const outcomes = await Promise.all(Array.from({ length: 20 }, () => committer.submit(entryOf(last, 'k', 'two'))))
  t.same(new Set(outcomes.map(idOf)), new Set([id]))
  t.ok(breaker.hasBroken())
  t.match(await jobs.read(id), { coalesced: 20 })
})

t.test('forget and the end of a record remove the window', async (t) => {
  const { jobs, submit } = await setUp(t)
  const id = await submit(first, 'k', 'one')
  await submit(first, 'k', 'one', { principal: 'bob' })
  await jobs.query(`select accepted.forget('ann', true)`)
  t.match(await jobs.query('select principal from accepted.coalesced_key'), [{ principal: 'bob' }])
  const next = await submit(first, 'k', 'two')
  t.not(next, id)
  await jobs.query(`update accepted.job set status = 'succeeded', ended_at = now() - interval '1 h'`)
  await jobs.query('select accepted.expire(now())')
  t.not(await submit(first, 'k', 'three'), next, 'an expired record')
})

/** Submits requests until `count` are answered, from several committers, with few keys. */
async function storm(t: Test, committers: readonly ReturnType<typeof createCommitter>[], operation: Operation) {
  const count = 600
  const outcomes = await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const committer = committers[n % committers.length] as (typeof committers)[0]
      // Requests keep arriving while earlier ones are committed.
      for (let turn = 0; turn < n / 4; turn++) await new Promise((resolve) => setImmediate(resolve))
      return committer.submit(entryOf(operation, `k${n % 7}`, `w${n}`))
    }),
  )
  t.equal(outcomes.length, count)
  return { count, byJob: Map.groupBy(outcomes, idOf) }
}

t.test('many concurrent requests in several processes get one job per window, each counted once', async (t) => {
  const { jobs, openCommitter, committer, readQueued, readEntries } = await setUp(t)
  for (const operation of [first, last]) {
    const { byJob } = await storm(t, [committer, openCommitter()], operation)
    t.equal(byJob.size, 7)
    for (const [id, outcomes] of byJob) {
      t.equal(outcomes.filter(({ kind }) => kind === 'accepted').length, 1)
      t.match(await jobs.read(id), { coalesced: outcomes.length - 1 })
      const entries = await readEntries(id)
      t.equal(entries.length, operation === first ? 1 : outcomes.length)
      t.match(await readQueued(id), { data: { payload: { word: entries.at(-1).word } } }, 'the last payload wins')
    }
  }
})

t.test('no request is lost while workers claim: each job runs with the payload of its last request', async (t) => {
  const { jobs, openCommitter, committer, readEntries } = await setUp(t)
  const ran = new Map<string, string[]>()
  const handlers = defineHandlers(
    { last },
    {
      'note.last': {
        settle: async (_trx, performed) => {
          for (const { id, payload } of performed) ran.set(id, [...(ran.get(id) ?? []), payload.word])
        },
      },
    },
  )
  await jobs.work(handlers)
  let isOver = false
  const endWindows = async () => {
    while (!isOver) {
      const waiting = await jobs.query(`select id from accepted.job where status = 'queued'`)
      for (const { id } of waiting) await jobs.query('select accepted.reschedule($1, now())', [id]).catch(() => {})
      await sql`select pg_notify('accepted_work', 'note.last')`.execute(jobs.database.kysely)
    }
  }
  const ending = endWindows()
  const { count, byJob } = await storm(t, [committer, openCommitter()], last)
  await until(async () => (await jobs.query('select from accepted.job where ended_at is null')).length === 0)
  isOver = true
  await ending
  t.ok(byJob.size > 7, `${byJob.size} jobs for ${count} requests`)
  for (const [id, outcomes] of byJob) {
    t.match(await jobs.read(id), { status: 'succeeded', coalesced: outcomes.length - 1 })
    const entries = await readEntries(id)
    t.equal(entries.length, outcomes.length)
    t.equal(ran.get(id)?.at(-1), entries.at(-1).word)
  }
})
