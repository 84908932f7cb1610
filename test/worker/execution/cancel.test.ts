import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import type { Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { channels, createNotifier } from '../../../src/db/notifier.ts'
import { cancelJob } from '../../../src/jobs/cancel.ts'
import { type Jobs, openJobs } from '../../support/jobs.ts'
import { until } from '../../support/until.ts'

const store = defineOperation({ name: 'store', input: Type.Object({ word: Type.String() }) })
const slow = defineOperation({
  name: 'slow',
  input: Type.Object({ word: Type.String() }),
  retry: { limit: 2, delaySeconds: 1, backoff: false },
})
const operations = { store, slow }

interface Tables {
  effect: { job_id: string; word: string }
}

const cancel = ({ database, boss }: Jobs, id: string) =>
  database.kysely.transaction().execute((trx) => cancelJob(boss, trx, { id, principal: 'ann' }))

async function write(trx: Transaction<Tables>, jobs: readonly { id: string; payload: { word: string } }[]) {
  const rows = jobs.map(({ id, payload }) => ({ job_id: id, word: payload.word }))
  await trx.insertInto('effect').values(rows).execute()
}

/** A promise that is resolved from outside. */
function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

t.test('a queued job is canceled at once: its handler never runs, and its payload is kept', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const id = await jobs.add(store, { word: 'no' })
  t.match(await cancel(jobs, id), { kind: 'canceled', job: { sequence: '2' } })
  t.match(await cancel(jobs, id), { kind: 'canceled', job: { sequence: '2' } }, 'the second cancel changes nothing')
  const other = await jobs.add(store, { word: 'yes' })
  await jobs.work(defineHandlers(operations, { store: { settle: write }, slow: { perform: async () => {} } }))
  await jobs.ended(other)
  t.same(await jobs.query('select job_id, word from effect'), [{ job_id: other, word: 'yes' }])
  t.match(await jobs.read(id), { status: 'canceled', payload: { word: 'no' }, cancel_requested: true, attempt: 0 })
  t.match(await cancel(jobs, other), { kind: 'too-late' })
  t.same(await cancel(jobs, '019b7d2e-0000-7000-8000-000000000000'), { kind: 'unknown' })
})

for (const source of ['a notification', 'a poll'] as const) {
  t.test(`after ${source}, the signal of a running handler aborts, and its effects roll back`, async (t) => {
    const jobs = await openJobs(t, Object.values(operations))
    const running = gate()
    const aborted = gate()
    await jobs.work(
      defineHandlers(operations, {
        store: { settle: write },
        slow: {
          perform: async ({ signal }) => {
            signal.addEventListener('abort', aborted.open)
            running.open()
            await aborted.opened
          },
          settle: write,
        },
      }),
    )
    const id = await jobs.add(slow, { word: 'no' })
    await running.opened
    const notifier = createNotifier(jobs.database)
    await jobs.database.kysely.transaction().execute(async (trx) => {
      const canceled = await cancelJob(jobs.boss, trx, { id, principal: 'ann' })
      t.match(canceled, { kind: 'requested', job: { status: 'running', cancel_requested: true } })
      if (source !== 'a notification') return
      // Before the commit, a poll cannot find the request.
      notifier.notify('cancel', [id])
      await aborted.opened
    })
    await aborted.opened
    t.match(await jobs.ended(id), { status: 'canceled', payload: { word: 'no' }, attempt: 1, error: null })
    t.same(await jobs.query('select from effect'), [])
    t.same(await jobs.query('select from accepted.attempt'), [], 'no failed attempt is recorded')
    t.same(await jobs.query(`select from accepted_queue.job where name = 'slow'`), [], 'its queue row is deleted')
  })
}

t.test('the work of a handler that ignores the abort is not settled', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const running = gate()
  const go = gate()
  await jobs.work(
    defineHandlers(operations, {
      store: { settle: write },
      slow: {
        perform: async () => {
          running.open()
          await go.opened
        },
        settle: write,
      },
    }),
  )
  const id = await jobs.add(slow, { word: 'no' })
  await running.opened
  await cancel(jobs, id)
  go.open()
  t.match(await jobs.ended(id), { status: 'canceled' })
  t.same(await jobs.query('select from effect'), [])
})

t.test('a cancel that meets a settle waits for it, and comes too late', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const settling = gate()
  const go = gate()
  await jobs.work(
    defineHandlers(operations, {
      store: {
        settle: async (trx, batch) => {
          await write(trx, batch)
          settling.open()
          await go.opened
        },
      },
      slow: { perform: async () => {} },
    }),
  )
  const id = await jobs.add(store, { word: 'yes' })
  await settling.opened
  const canceled = cancel(jobs, id)
  await until(async () => {
    const waiting = await jobs.query(`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
    return waiting.length > 0
  })
  go.open()
  t.match(await canceled, { kind: 'too-late', job: { status: 'succeeded' } })
  t.same(await jobs.query('select word from effect'), [{ word: 'yes' }])
})

t.test('in a batch with a canceled job, the other jobs are settled', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const ids = await Promise.all(['a', 'b', 'c'].map((word) => jobs.add(store, { word })))
  const [, canceled] = ids as [string, string, string]
  // As if it had been canceled after it was claimed.
  await jobs.query(`update accepted.job set cancel_requested = true where id = $1`, [canceled])
  await jobs.work(defineHandlers(operations, { store: { settle: write }, slow: { perform: async () => {} } }))
  const ends = await Promise.all(ids.map((id) => jobs.ended(id)))
  t.same(
    ends.map(({ status }) => status),
    ['succeeded', 'canceled', 'succeeded'],
  )
  t.same(
    (await jobs.query('select word from effect order by word')).map(({ word }) => word),
    ['a', 'c'],
  )
})

t.test('a job with a cancel request is canceled when its attempt fails, and is not retried', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  let attempts = 0
  const failing = gate()
  const go = gate()
  await jobs.work(
    defineHandlers(operations, {
      store: { settle: write },
      slow: {
        perform: async () => {
          attempts += 1
          failing.open()
          await go.opened
          throw new Error('no')
        },
      },
    }),
  )
  const id = await jobs.add(slow, { word: 'no' })
  await failing.opened
  await cancel(jobs, id)
  go.open()
  t.match(await jobs.ended(id), { status: 'canceled', error: null })
  t.equal(attempts, 1)
})

t.test('a worker listens for work and cancellations on one connection', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  await jobs.work(defineHandlers(operations, { store: { settle: write }, slow: { perform: async () => {} } }))
  const listening = await until(async () => {
    const rows = await jobs.query(`
      select query from pg_stat_activity where datname = current_database() and application_name like '% listen'`)
    return rows.length > 0 && rows
  })
  t.equal(listening.length, 1)
  t.same(Object.keys(channels), ['work', 'status', 'cancel'])
})
