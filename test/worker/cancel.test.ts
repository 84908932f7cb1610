import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import type { Transaction } from 'kysely'
import t from 'tap'
import Type from 'typebox'
import { channels, createNotifier } from '../../src/db/notifier.ts'
import { cancelJob } from '../../src/jobs/cancel.ts'
import { type Jobs, openJobs } from '../support/jobs.ts'
import { until } from '../support/until.ts'

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

/** A promise that somebody else resolves. */
function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

t.test('a job that waits is canceled at once: its handler never runs, and its payload is kept', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const id = await jobs.add(store, { word: 'no' })
  t.match(await cancel(jobs, id), { kind: 'canceled', now: true })
  t.match(await cancel(jobs, id), { kind: 'canceled', now: false })
  const other = await jobs.add(store, { word: 'yes' })
  await jobs.work(defineHandlers(operations, { store: { settle: write }, slow: { perform: async () => {} } }))
  await jobs.ended(other)
  t.same(await jobs.query('select job_id, word from effect'), [{ job_id: other, word: 'yes' }])
  t.match(await jobs.read(id), { state: 'canceled', payload: { word: 'no' }, cancel_requested: true, attempt: 0 })
  t.match(await cancel(jobs, other), { kind: 'too-late' })
  t.same(await cancel(jobs, '019b7d2e-0000-7000-8000-000000000000'), { kind: 'unknown' })
})

for (const how of ['by the hint', 'without a hint, by looking'] as const) {
  t.test(`a running handler is told ${how}; its effects roll back and no attempt is charged`, async (t) => {
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
    const hints = createNotifier(jobs.database)
    await jobs.database.kysely.transaction().execute(async (trx) => {
      const canceled = await cancelJob(jobs.boss, trx, { id, principal: 'ann' })
      t.match(canceled, { kind: 'requested', job: { state: 'running', cancel_requested: true } })
      if (how !== 'by the hint') return
      // Before the commit nobody who looks can see it.
      hints.notify('cancel', [id])
      await aborted.opened
    })
    await aborted.opened
    t.match(await jobs.ended(id), { state: 'canceled', payload: { word: 'no' }, attempt: 1, error: null })
    t.same(await jobs.query('select from effect'), [])
    t.same(await jobs.query('select from accepted.attempt'), [])
    t.same(await jobs.query(`select state::text from pgboss.job where name = 'slow'`), [{ state: 'completed' }])
  })
}

t.test('a handler that does not listen: what it has done is not settled', async (t) => {
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
  t.match(await jobs.ended(id), { state: 'canceled' })
  t.same(await jobs.query('select from effect'), [])
})

t.test('who locks the status first wins: a cancel that meets a settle waits, and comes too late', async (t) => {
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
  t.match(await canceled, { kind: 'too-late', job: { state: 'succeeded' } })
  t.same(await jobs.query('select word from effect'), [{ word: 'yes' }])
})

t.test('a batch with a canceled job: the others are settled', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const ids = await Promise.all(['a', 'b', 'c'].map((word) => jobs.add(store, { word })))
  const [, canceled] = ids as [string, string, string]
  // As if it had been canceled after it was claimed.
  await jobs.query(`update accepted.job set cancel_requested = true where id = $1`, [canceled])
  await jobs.work(defineHandlers(operations, { store: { settle: write }, slow: { perform: async () => {} } }))
  const ends = await Promise.all(ids.map((id) => jobs.ended(id)))
  t.same(
    ends.map(({ state }) => state),
    ['succeeded', 'canceled', 'succeeded'],
  )
  t.same(
    (await jobs.query('select word from effect order by word')).map(({ word }) => word),
    ['a', 'c'],
  )
})

t.test('a job to be canceled that waits for its retry is canceled at once, not retried', async (t) => {
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
  t.match(await jobs.ended(id), { state: 'canceled', error: null })
  t.equal(attempts, 1)
})

t.test('the workers listen for cancellations on the connection on which they listen for work', async (t) => {
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
