import { once } from 'node:events'
import { type AbandonedJob, defineOperation, type Operation } from 'accepted'
import { defineHandlers, JobFailed } from 'accepted/worker'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { enqueue } from '../../src/jobs/enqueue.ts'
import { insertBatch, type NewBatch } from '../../src/jobs/enqueue-batch.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { findBlockedBackends } from '../support/database.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

const Word = Type.Object({ word: Type.String() })
/** Its settle enqueues children: one `word.say` for each word. */
const Tree = Type.Object({ words: Type.Array(Type.String()) })

const say = defineOperation({ name: 'word.say', input: Word, retry: { limit: 0 } })
const tree = defineOperation({
  name: 'word.tree',
  input: Tree,
  result: Type.Object({ count: Type.Integer() }),
  retry: { limit: 0 },
  abandon: async (_trx, jobs) => void abandoned.push(...jobs),
})
/** No worker claims its jobs. */
const idle = defineOperation({ name: 'word.idle', input: Word })
const finish = defineOperation({ name: 'word.finish', input: Word })
/** Its handler is at 50 percent until the job is canceled. */
const hold = defineOperation({ name: 'word.hold', input: Word })
/** Its settle enqueues a batch: a job of `word.say`, or of `word.idle`, for each word. */
const fan = defineOperation({
  name: 'word.fan',
  input: Type.Object({ words: Type.Array(Type.String()), child: Type.Boolean() }),
  retry: { limit: 0 },
})
/** If its job fails, the other jobs of the batch are canceled. */
const strict = defineOperation({
  name: 'word.strict',
  input: Word,
  retry: { limit: 0 },
  abandon: async (trx, jobs) => {
    const failed = jobs.filter(({ status }) => status === 'failed').map(({ id }) => id)
    await sql`
      select accepted.cancel(parent) from accepted.job
      where id = any(${failed}::uuid[]) and parent is not null`.execute(trx)
  },
})
const operations = { say, tree, idle, finish, hold, fan, strict }

let abandoned: AbandonedJob[] = []
/** What the handler of `word.finish` has received. */
let finished: unknown[] = []

const handlers = defineHandlers(operations, {
  'word.say': {
    settle: async (_trx, jobs) => {
      for (const { payload } of jobs) if (payload.word.startsWith('fail')) throw new JobFailed('said-no', 'No')
    },
  },
  'word.tree': {
    settle: async (trx, jobs) => {
      for (const { payload, enqueue } of jobs) {
        for (const word of payload.words) {
          if (word === 'same key') await enqueue(trx, tree, { words: [] }, { child: true, key: 'k' })
          else if (word.startsWith('idle')) await enqueue(trx, idle, { word }, { child: true })
          else if (word.startsWith('bob: '))
            await enqueue(trx, say, { word: word.slice(5) }, { child: true, principal: 'bob' })
          else if (word.startsWith('hold')) await enqueue(trx, hold, { word }, { child: true })
          else if (word.startsWith('tree')) await enqueue(trx, tree, { words: ['leaf'] }, { child: true })
          else if (word.startsWith('after ')) await enqueue(trx, say, { word }, { child: true, after: [word.slice(6)] })
          else await enqueue(trx, say, { word }, { child: true })
        }
      }
      return jobs.map(({ payload }) => ({ count: payload.words.length }))
    },
  },
  'word.idle': { perform: async () => {} },
  'word.finish': { perform: async ({ batch, payload }) => void finished.push({ batch, payload }) },
  'word.strict': {
    concurrency: 4,
    perform: async ({ payload, signal }) => {
      if (payload.word.startsWith('fail')) throw new JobFailed('said-no', 'No')
      if (payload.word === 'hold') await once(signal, 'abort')
    },
  },
  'word.fan': {
    settle: async (trx, jobs) => {
      for (const { payload, enqueueBatch, enqueue } of jobs) {
        const { words, child } = payload
        const items = words.map((word) => ({ operation: word === 'idle' ? idle : say, payload: { word } }))
        const onEnd = { operation: finish, payload: { word: 'done' } }
        const batch = await enqueueBatch(trx, { items, onEnd, child })
        await enqueue(trx, say, { word: 'after the batch' }, { after: [batch] })
      }
    },
  },
  'word.hold': {
    perform: async ({ progress, signal }) => {
      progress(50)
      await once(signal, 'abort')
    },
  },
})

async function setUp(t: Test, { works = true } = {}): Promise<Jobs> {
  abandoned = []
  finished = []
  const jobs = await openJobs(t, Object.values(operations))
  if (works) await startWorker(jobs)
  return jobs
}

const startWorker = (jobs: Jobs) =>
  jobs.work(handlers, { operations: ['word.say', 'word.tree', 'word.finish', 'word.hold', 'word.fan', 'word.strict'] })

const addBatch = async ({ database }: Jobs, batch: Partial<NewBatch> & Pick<NewBatch, 'children'>) => {
  const id = uuid7()
  await database.kysely
    .transaction()
    .execute((trx) => insertBatch(trx as unknown as AnyTransaction, { id, principal: 'ann', ...batch }))
  return id
}

const child = (operation: Operation, word: string) => ({ id: uuid7(), operation, payload: { word } })

t.test('a job with children ends when its last child has ended, in the same transaction', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['a', 'b', 'tree', 'c'] })
  t.match(await jobs.ended(id), {
    ...{ status: 'succeeded', percent: 100, result: { count: 4 }, payload: null },
    children: { total: 4, succeeded: 4, failed: 0, canceled: 0 },
  })
  const together = await jobs.query(
    `select count(*) from accepted.job child join accepted.job parent on parent.id = child.parent
    where parent.id = $1 and child.xmin = parent.xmin`,
    [id],
  )
  t.not(together[0].count, '0', 'a child and its parent have ended in one transaction')
  t.same(await jobs.query('select from accepted.parent'), [])
})

t.test('a parent whose child fails for good fails with children-failed once all have ended', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['a', 'fail', 'b'] })
  t.match(await jobs.ended(id), {
    ...{ status: 'failed', result: null, payload: { words: ['a', 'fail', 'b'] } },
    error: { code: 'children-failed', message: '1 of 3 children failed or were canceled' },
    children: { total: 3, succeeded: 2, failed: 1, canceled: 0 },
  })
  const [failed] = await jobs.query("select id from accepted.job where parent = $1 and status = 'failed'", [id])
  const named = { id: failed.id, operation: 'word.say', status: 'failed' }
  t.same((await jobs.read(id)).error.child, { ...named, error: { code: 'said-no', message: 'No', public: true } })
  const details = [{ ...named, error: { code: 'said-no', message: 'No' } }]
  t.match(abandoned, [{ id, status: 'failed', error: { code: 'children-failed', details } }])
  t.notOk('child' in (abandoned[0]?.error ?? {}))
})

t.test('settle enqueues a batch, which belongs to the principal of its job', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(fan, { words: ['a', 'b'], child: false })
  t.match(await jobs.ended(id), { status: 'succeeded', children: null })
  const [batch] = await jobs.query("select id from accepted.job where operation = 'batch'")
  const counts = { total: 2, succeeded: 2, failed: 0, canceled: 0 }
  t.match(await jobs.ended(batch.id), { status: 'succeeded', principal: 'ann', parent: null, result: counts })
  await until(() => finished.length === 1)
  t.same(finished, [{ batch: { id: batch.id, ...counts }, payload: { word: 'done' } }])
  const after = await jobs.query("select status from accepted.job where operation = 'word.say' and parent is null")
  t.equal(after.length, 1)
})

t.test('a batch that settle enqueues may be a child: the job ends, and is canceled, with the batch', async (t) => {
  const jobs = await setUp(t)
  const total = { total: 1, succeeded: 0, failed: 0, canceled: 0 }
  const good = await jobs.add(fan, { words: ['a', 'b'], child: true })
  t.match(await jobs.ended(good), { status: 'succeeded', percent: 100, children: { ...total, succeeded: 1 } })
  const bad = await jobs.add(fan, { words: ['a', 'fail'], child: true })
  t.match(await jobs.ended(bad), {
    ...{ status: 'failed', children: { ...total, failed: 1 } },
    error: { child: { operation: 'batch', status: 'failed', error: { code: 'children-failed' } } },
  })
  const idling = await jobs.add(fan, { words: ['idle'], child: true })
  await until(async () => (await jobs.read(idling)).status === 'running')
  await jobs.query('select accepted.cancel($1)', [idling])
  t.match(await jobs.ended(idling), { status: 'canceled', children: { ...total, canceled: 1 } })
})

t.test('a batch that settle must not enqueue fails the attempt, and nothing of it is stored', async (t) => {
  const jobs = await setUp(t)
  const none = await jobs.add(fan, { words: [], child: false })
  t.match(await jobs.ended(none), { status: 'failed', error: { message: 'A batch must have 1 to 10000 items, not 0' } })
  const wrong = await jobs.add(fan, { words: ['a', 5 as unknown as string], child: false })
  t.match(await jobs.ended(wrong), { status: 'failed', error: { code: 'invalid-payload' } })
  t.same(await jobs.query("select from accepted.job where operation in ('batch', 'word.say')"), [])
})

t.test('abandon of a child may cancel the rest of its batch', async (t) => {
  const jobs = await setUp(t)
  const onEnd = { operation: finish, payload: { word: 'done' } }
  const children = ['hold', 'hold', 'fail', 'x', 'y'].map((word) => child(strict, word))
  const id = await addBatch(jobs, { children: [...children, child(idle, 'z')], onEnd })
  const { status, children: counts } = await jobs.ended(id)
  t.equal(status, 'canceled')
  t.match(counts, { total: 6, failed: 1 })
  t.ok(counts.canceled >= 3, 'running and queued children are canceled')
  await until(() => finished.length === 1)
})

t.test('many children may fail at once, although each cancels the rest of its batch', async (t) => {
  const jobs = await setUp(t)
  await startWorker(jobs)
  const id = await addBatch(jobs, { children: Array.from({ length: 30 }, (_, n) => child(strict, `fail ${n}`)) })
  const { status, children } = await jobs.ended(id)
  t.equal(status, 'canceled')
  t.match(children, { total: 30, succeeded: 0 })
  t.ok(children.failed >= 1)
})

t.test('children-failed names the child that failed first, and none of another principal', async (t) => {
  const jobs = await setUp(t)
  const failed = await jobs.add(say, { word: 'fail' })
  await jobs.ended(failed)
  const children = ['fail', 'fail', 'a'].map((word) => child(say, word))
  // It is canceled before the others fail.
  const id = await addBatch(jobs, { children: [{ ...child(idle, 'x'), after: [failed] }, ...children] })
  const { error } = await jobs.ended(id)
  const [first] = await jobs.query(
    "select id from accepted.job where parent = $1 and status = 'failed' order by ended_at, id limit 1",
    [id],
  )
  t.match(error.child, { id: first.id, status: 'failed' })
  const canceled = child(idle, 'y')
  t.match((await jobs.ended(await addBatch(jobs, { children: [{ ...canceled, after: [failed] }] }))).error.child, {
    ...{ id: canceled.id, operation: 'word.idle', status: 'canceled', error: undefined },
  })
  const other = await jobs.add(tree, { words: ['bob: fail'] })
  t.notOk('child' in (await jobs.ended(other)).error)
})

t.test('the progress of running children counts for their parent, and not for a batch', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['a', 'hold', 'idle', 'idle'] })
  const batch = await addBatch(jobs, {
    children: [child(say, 'a'), child(hold, 'x'), child(idle, 'y'), child(idle, 'z')],
  })
  await until(async () => (await jobs.read(id)).percent === 37)
  await until(async () => {
    const running = await jobs.query('select from accepted.job where parent = $1 and percent = 50', [batch])
    return running.length > 0 && (await jobs.read(batch)).percent === 25
  })
  for (const parent of [id, batch]) await jobs.query('select accepted.cancel($1)', [parent])
  // A parent that was canceled keeps its percentage, although all children have ended.
  t.match(await jobs.ended(id), { status: 'canceled', percent: 37 })
  t.match(await jobs.ended(batch), { status: 'canceled', percent: 25 })
})

t.test('the percentage of a failed parent includes the children that have succeeded', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['a', 'fail', 'b', 'c'] })
  const batch = await addBatch(jobs, { children: [child(say, 'fail'), child(say, 'a')] })
  for (const [parent, least] of [
    [id, 75],
    [batch, 50],
  ] as const) {
    const { status, percent } = await jobs.ended(parent)
    t.equal(status, 'failed')
    t.ok(percent >= least && percent < 100, `${percent} percent`)
  }
})

t.test('the retry of a parent settles again, also with an idempotency key', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['fail'] }, { idempotencyKey: 'k' })
  t.match(await jobs.ended(id), { status: 'failed', error: { code: 'children-failed' } })
  const [{ retry }] = await jobs.query('select accepted.retry($1) as retry', [id])
  t.match(await jobs.ended(retry), { status: 'failed', children: { total: 1, failed: 1 }, idempotency_key: 'k' })
})

t.test('redrive retries a failed parent without its children, and the failed children of a batch', async (t) => {
  const jobs = await setUp(t)
  const parent = await jobs.add(tree, { words: ['fail'] })
  await jobs.ended(parent)
  const failing = child(say, 'fail')
  await jobs.ended(await addBatch(jobs, { children: [child(say, 'a'), failing] }))
  await jobs.query('select accepted.redrive()')
  const retried = await jobs.query('select retry_of from accepted.job where retry_of is not null order by retry_of')
  t.same(
    retried.map(({ retry_of }) => retry_of),
    [parent, failing.id].toSorted(),
  )
})

t.test('the retry of a child counts in place of the child while the parent has not ended', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['fail', 'idle'] })
  const failed = await until(async () => {
    const rows = await jobs.query("select id from accepted.job where parent = $1 and status = 'failed'", [id])
    return rows[0]?.id
  })
  const [{ retry }] = await jobs.query('select accepted.retry($1) as retry', [failed])
  t.match(await jobs.ended(retry), { status: 'failed', parent: id, retry_of: failed })
  await jobs.query('select accepted.cancel(id) from accepted.job where parent = $1 and ended_at is null', [id])
  t.match(await jobs.ended(id), { status: 'failed', children: { total: 2, succeeded: 0, failed: 1, canceled: 1 } })
  const [{ late }] = await jobs.query('select accepted.retry($1) as late', [retry])
  t.match(await jobs.read(late), { parent: null }, 'the parent has ended')
})

t.test('canceling a parent cancels its children and their children', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['idle', 'idle', 'a'] })
  await until(async () => (await jobs.read(id)).children?.succeeded === 1)
  t.same(await jobs.query('select accepted.cancel($1)::text as status', [id]), [{ status: 'running' }])
  t.match(await jobs.ended(id), {
    ...{ status: 'canceled', children: { total: 3, succeeded: 1, failed: 0, canceled: 2 } },
  })
  t.match(abandoned, [{ id, status: 'canceled' }])
})

t.test('a batch ends with its last child, and onEnd enters the queue in the same commit', async (t) => {
  const jobs = await setUp(t)
  const id = await addBatch(jobs, {
    children: Array.from({ length: 250 }, (_, n) => child(say, `${n}`)),
    onEnd: { operation: finish, payload: { word: 'done' } },
  })
  const counts = { total: 250, succeeded: 250, failed: 0, canceled: 0 }
  t.match(await jobs.ended(id), {
    operation: 'batch',
    status: 'succeeded',
    percent: 100,
    result: counts,
    children: counts,
  })
  const [next] = await jobs.query("select id from accepted.job where operation = 'word.finish'")
  const commits = await jobs.query(
    `select
      (select max(xid::text::bigint) from accepted.change where $1 = any(job_ids)) as ended,
      (select min(xid::text::bigint) from accepted.change where $2 = any(job_ids)) as enqueued`,
    [id, next.id],
  )
  t.equal(commits[0].ended, commits[0].enqueued, 'in one transaction')
  t.match(await jobs.ended(next.id), { status: 'succeeded', batch: { id, ...counts }, principal: 'ann', parent: null })
  t.same(finished, [{ batch: { id, ...counts }, payload: { word: 'done' } }])
})

t.test('a batch fails with children-failed, or succeeds with allowFailures', async (t) => {
  const jobs = await setUp(t)
  const children = () => [child(say, 'a'), child(say, 'fail')]
  const strict = await addBatch(jobs, { children: children(), onEnd: { operation: finish, payload: { word: 'x' } } })
  const lenient = await addBatch(jobs, { children: children(), allowFailures: true })
  t.match(await jobs.ended(strict), { status: 'failed', error: { code: 'children-failed' } })
  t.match(await jobs.ended(lenient), {
    status: 'succeeded',
    result: { total: 2, succeeded: 1, failed: 1, canceled: 0 },
  })
  await until(() => finished.length === 1)
  await t.rejects(jobs.query('select accepted.retry($1)', [strict]), {
    code: '55000',
    message: /a batch cannot be retried/,
  })
})

t.test('a job waits for other jobs; a failed one cancels it, or not', async (t) => {
  const jobs = await setUp(t, { works: false })
  const [first, failing] = [await jobs.add(say, { word: 'a' }), await jobs.add(say, { word: 'fail' })]
  const second = await jobs.add(say, { word: 'b' }, { after: [first] })
  const third = await jobs.add(say, { word: 'c' }, { after: [first, second] })
  const canceled = await jobs.add(say, { word: 'd' }, { after: [failing, first] })
  const chained = await jobs.add(say, { word: 'e' }, { after: [canceled] })
  const ran = await jobs.add(say, { word: 'f' }, { after: [failing, canceled], onFailure: 'run' })
  t.match(await jobs.read(third), { status: 'queued', waiting_for: [first, second] })
  await startWorker(jobs)
  for (const id of [first, second, third, ran])
    t.match(await jobs.ended(id), { status: 'succeeded', waiting_for: null })
  const [a, b, c] = await Promise.all([first, second, third].map((id) => jobs.read(id)))
  t.ok(a.ended_at <= b.started_at && b.ended_at <= c.started_at, 'in order')
  t.match(await jobs.ended(canceled), { status: 'canceled', message: `Canceled because the job ${failing} failed` })
  t.match(await jobs.ended(chained), {
    status: 'canceled',
    message: `Canceled because the job ${canceled} was canceled`,
  })
  t.same(await jobs.query('select from accepted.dependency'), [])
  const late = await jobs.add(say, { word: 'g' }, { after: [first] })
  t.match(await jobs.ended(late), { status: 'succeeded' })
  t.match(await jobs.ended(await jobs.add(say, { word: 'h' }, { after: [failing] })), { status: 'canceled' })
})

t.test('an unknown job and a cycle are refused', async (t) => {
  const jobs = await setUp(t, { works: false })
  await t.rejects(jobs.add(say, { word: 'a' }, { after: [uuid7()] }), { code: 'P0002' })
  const parent = await jobs.add(idle, { word: 'parent' })
  const waiting = await jobs.add(idle, { word: 'waits for the parent' }, { after: [parent] })
  await t.rejects(jobs.add(say, { word: 'a' }, { parent, after: [waiting] }), {
    code: '22023',
    message: /waits for it/,
  })
  await t.rejects(jobs.add(say, { word: 'a' }, { parent, after: [parent] }), { code: '22023', message: /waits for it/ })
})

t.test('a parent ends although its children end before it waits for them', async (t) => {
  const jobs = await setUp(t)
  // The test checks the commit of each end, so the task that finds missed ends must not run.
  await jobs.query("select pg_advisory_lock(hashtext('accepted.resolve_missed'))")
  const failed = await jobs.add(say, { word: 'fail' })
  await jobs.ended(failed)
  const id = await jobs.add(tree, { words: [`after ${failed}`, `after ${failed}`] })
  t.match(await jobs.ended(id), { status: 'failed', children: { total: 2, succeeded: 0, failed: 0, canceled: 2 } })
  const waiting = () => ({ ...child(say, 'x'), after: [failed] })
  const onEnd = { operation: finish, payload: { word: 'done' } }
  const batch = await addBatch(jobs, { children: [waiting(), waiting()], onEnd })
  t.match(await jobs.read(batch), { status: 'failed', children: { total: 2, canceled: 2 } })
  await until(() => finished.length === 1)
  const children = [waiting(), ...Array.from({ length: 1_000 }, () => child(say, 'x'))]
  const large = await addBatch(jobs, { children, allowFailures: true })
  t.match(await jobs.ended(large), { status: 'succeeded', children: { total: 1_001, succeeded: 1_000, canceled: 1 } })
})

t.test('the key of a parent is free again when its children have failed, and its duplicate waits for it', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['idle'] }, { idempotencyKey: 'k' })
  await until(async () => (await jobs.read(id)).children)
  const duplicate = await jobs.add(tree, { words: ['a'] }, { idempotencyKey: 'k' })
  await until(
    async () =>
      (await jobs.query("select from accepted_queue.job where state = 'retry' or start_after > now()")).length,
  )
  await jobs.query('select accepted.cancel(id) from accepted.job where parent = $1', [id])
  t.match(await jobs.ended(id), { status: 'failed' })
  await jobs.query('select accepted.reschedule($1, now())', [duplicate])
  t.match(await jobs.ended(duplicate), { status: 'succeeded', children: { total: 1, succeeded: 1 } })
  const [{ retry }] = await jobs.query('select accepted.retry($1) as retry', [id])
  t.match(await jobs.ended(retry), { status: 'succeeded', children: null }, 'a duplicate of the job that succeeded')
})

t.test('two transactions cannot close a cycle together', async (t) => {
  const jobs = await setUp(t, { works: false })
  const [a, b] = [await jobs.add(idle, { word: 'a' }), await jobs.add(idle, { word: 'b' })]
  const afterA = await jobs.add(idle, { word: 'after a' }, { after: [a] })
  const afterB = await jobs.add(idle, { word: 'after b' }, { after: [b] })
  const added = Promise.withResolvers<void>()
  const commit = Promise.withResolvers<void>()
  const first = jobs.database.kysely.transaction().execute(async (trx) => {
    const childOfA = { id: uuid7(), operation: say, payload: { word: 'x' }, principal: 'ann', parent: a }
    await enqueue(jobs.boss, trx as unknown as AnyTransaction, [{ ...childOfA, after: [afterB] }])
    added.resolve()
    await commit.promise
  })
  await added.promise
  let isDone = false
  const second = jobs.add(say, { word: 'y' }, { parent: b, after: [afterA] }).finally(() => {
    isDone = true
  })
  second.catch(() => {})
  await until(async () => isDone || (await findBlockedBackends(jobs.query)).length > 0)
  commit.resolve()
  await first
  await t.rejects(second, { code: '22023', message: /waits for it/ })
})

t.test('only the first of several retries of a child counts', async (t) => {
  const jobs = await setUp(t)
  const id = await addBatch(jobs, { children: [child(say, 'fail'), child(idle, 'waits')] })
  const failed = await until(async () => {
    const rows = await jobs.query("select id from accepted.job where parent = $1 and status = 'failed'", [id])
    return rows[0]?.id
  })
  const retries = await jobs.query('select accepted.retry($1) as id from generate_series(1, 2)', [failed])
  for (const retry of retries) await jobs.ended(retry.id)
  await jobs.query('select accepted.cancel(id) from accepted.job where parent = $1 and ended_at is null', [id])
  t.match(await jobs.ended(id), { children: { total: 2, succeeded: 0, failed: 1, canceled: 1 } })
})

t.test('a child with the key of its parent does not wait for the parent', async (t) => {
  const jobs = await setUp(t)
  const id = await jobs.add(tree, { words: ['same key'] }, { idempotencyKey: 'k' })
  t.match(await jobs.ended(id), { status: 'succeeded', children: { total: 1, succeeded: 1 } })
})

t.test('forget leaves no follow-up of a batch', async (t) => {
  const jobs = await setUp(t, { works: false })
  await addBatch(jobs, { children: [child(idle, 'a')], onEnd: { operation: finish, payload: { word: 'x' } } })
  await jobs.query("select accepted.forget('ann', true)")
  t.same(await jobs.query("select from accepted.job where principal = 'ann'"), [])
})

t.test('a new job shows what it waits for', async (t) => {
  const { database, boss, add } = await setUp(t, { works: false })
  const after = [await add(idle, { word: 'first' })]
  const job = { id: uuid7(), operation: say, payload: { word: 'x' }, principal: 'ann', after }
  const [made] = await database.kysely.transaction().execute((trx) => enqueue(boss, trx, [job]))
  t.match(made, { status: 'queued', waiting_for: after })
})

t.test('SQL refuses batches like single jobs', async (t) => {
  const jobs = await setUp(t, { works: false })
  const refused = (items: unknown, code: string, message: RegExp) =>
    t.rejects(jobs.query('select accepted.enqueue_batch($1::jsonb)', [JSON.stringify(items)]), { code, message })
  const operation = 'word.say'
  await refused([{ operation, input: {} }], '22023', /unknown member: input/)
  await refused([{ operation, key: '' }], '22023', /the key of an item has 0 characters/)
  await refused([{ operation: 'word.nothing' }], '42704', /there is no operation/)
  await jobs.query("update accepted.operation set max_backlog = 2 where name = 'word.say'")
  await refused([{ operation }, { operation }, { operation }], '53400', /do not fit into the backlog of 'word.say'/)
  await jobs.query('select accepted.enqueue_batch($1::jsonb)', [JSON.stringify([{ operation }])])
  await refused([{ operation }, { operation }], '53400', /do not fit/)
})

t.test('SQL enqueues batches', async (t) => {
  const jobs = await setUp(t)
  const [{ id }] = await jobs.query(`
    select accepted.enqueue_batch('[{"operation": "word.say", "payload": {"word": "a"}, "key": "k"},
      {"operation": "word.say", "payload": {"word": "b"}}]', '{"operation": "word.finish", "payload": {"word": "x"}}') as id`)
  t.match(await jobs.ended(id), { status: 'succeeded', principal: 'anonymous', result: { total: 2, succeeded: 2 } })
  await until(() => finished.length === 1)
})
