// The queue keeps the payload of a job that has not ended. When the queue has lost it, the job must not run again.
import { defineOperation } from 'accepted'
import { defineHandlers } from 'accepted/worker'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { createNotifier } from '../../src/db/notifier.ts'
import { redrive } from '../../src/jobs/redrive.ts'
import { startBoss } from '../../src/queue/boss.ts'
import { prepareQueues } from '../../src/queue/define-operations.ts'
import { createReconciler } from '../../worker/maintenance/reconciler.ts'
import { serve } from '../support/api.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({
  ...{ name: 'note.create', input: Type.Unknown(), retry: { limit: 0 } },
  route: { method: 'POST', url: '/notes' },
})

/** Serves the API, and reconciles the status table with the queue on request. */
async function setUp(t: Test) {
  const { url, database } = await serve(t, { operations: { note } })
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.comment(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await prepareQueues(database, boss, [note])
  const notifier = createNotifier(database)
  t.teardown(() => notifier.flush())
  const reconcile = createReconciler({ database, boss, notifier, log: pino({ level: 'silent' }) })
  const post = async (path: string, body?: unknown) => {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    return { status: response.status, body: (await response.json()) as { id: string; error: { message: string } } }
  }
  const query = async (text: string) => (await database.pool.query(text)).rows
  return {
    ...{ boss, query, post },
    submit: async (input: unknown) => (await post('/notes', input)).body.id,
    async reconcile() {
      await query("update accepted.reconciliation set compared_at = '-infinity'")
      await reconcile()
    },
    redrive: () =>
      database.kysely.transaction().execute((trx) => redrive(trx, [note.name], { batchSize: 100, maxRedriven: 100 })),
  }
}

const asFailed = "update accepted_queue.job set state = 'failed', completed_on = now()"

for (const [loss, statement] of Object.entries({
  'its queue row was deleted': 'delete from accepted_queue.job',
  'its queue row was truncated': 'truncate accepted_queue.job',
  'its queue was deleted': "select accepted_queue.delete_queue('note.create')",
  'its queue row lost the data, and then failed': `${asFailed}, data = null`,
  'its queue row lost the payload, and then failed': `${asFailed}, data = data - 'payload'`,
})) {
  t.test(`a job is not retryable if ${loss}, and the answer says so`, async (t) => {
    const { query, post, submit, reconcile, redrive } = await setUp(t)
    const id = await submit({ word: 'x' })
    await query(statement)
    await reconcile()
    t.match(await query('select id, status, payload from accepted.job'), [{ id, status: 'failed', payload: null }])
    const { status, body } = await post(`/jobs/${id}/retry`)
    t.match({ status, body }, { status: 409, body: { error: { code: 'job-not-retryable' } } })
    t.match(body.error.message, /payload of the job was lost .* send the request again/)
    t.match(await redrive(), [{ id, outcome: 'missing-payload' }])
    t.equal((await query('select from accepted.job')).length, 1)
  })
}

t.test('a job that was canceled without its queue row is not retryable', async (t) => {
  const { query, post, submit } = await setUp(t)
  const id = await submit({ word: 'x' })
  await query('delete from accepted_queue.job')
  t.match(await post(`/jobs/${id}/cancel`), { status: 200, body: { status: 'canceled' } })
  t.match(await post(`/jobs/${id}/retry`), { status: 409, body: { error: { code: 'job-not-retryable' } } })
})

for (const input of [null, 0, false, '', {}]) {
  t.test(`a job whose payload is ${JSON.stringify(input)} can be retried`, async (t) => {
    const { query, post, submit, reconcile, redrive } = await setUp(t)
    const canceled = await submit(input)
    await post(`/jobs/${canceled}/cancel`)
    t.match(await post(`/jobs/${canceled}/retry`), { status: 202, body: { retryOf: canceled } })
    await query(`${asFailed} where state = 'created'`)
    await reconcile()
    t.match(await redrive(), [{ outcome: 'redriven' }])
    t.same(await query("select data -> 'payload' as payload from accepted_queue.job where state = 'created'"), [
      { payload: input },
    ])
  })
}

t.test(
  'a job whose queue row lost the payload fails without running, and its redrive with pg-boss does nothing',
  async (t) => {
    const jobs = await openJobs(t, [note])
    const id = await jobs.add(note, { word: 'x' }, { runAt: new Date(Date.now() + 3_600_000) })
    await jobs.query("update accepted_queue.job set data = data - 'payload', start_after = now()")
    const ran: string[] = []
    const perform = async (job: { id: string }) => {
      ran.push(job.id)
    }
    await jobs.work(defineHandlers({ note }, { 'note.create': { perform } }))
    t.match(await jobs.ended(id), {
      status: 'failed',
      payload: null,
      error: { code: 'invalid-payload', message: /the queue has lost it/ },
    })
    await jobs.boss.retry(note.name, id)
    const other = await jobs.add(note, { word: 'y' }, { priority: -1 })
    await jobs.ended(other)
    t.equal((await jobs.query('select from accepted.job where retry_of is not null')).length, 0)
    t.same(ran, [other])
  },
)
