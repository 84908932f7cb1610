import t from 'tap'
import type { JobStatus } from '../../src/db/tables.ts'
import { isFinal, pendingStatuses, transitions } from '../../src/jobs/status.ts'
import { openTestDatabase } from '../support/database.ts'

const statuses = Object.keys(transitions) as JobStatus[]

t.test('a final status has no transitions, and every other status has one to each final status', async (t) => {
  const final = statuses.filter(isFinal)
  t.same(final, ['succeeded', 'failed', 'canceled'])
  for (const status of final) t.same(transitions[status], [])
  for (const status of pendingStatuses) t.ok(final.every((end) => transitions[status].includes(end)))
})

t.test('the pending statuses are queued and running', async (t) => {
  // Some guards in SQL spell these out.
  t.same(pendingStatuses, ['queued', 'running'])
})

t.test('a queued job can become running, and only a running job can become queued', async (t) => {
  t.ok(transitions.queued.includes('running'))
  t.notOk(transitions.queued.includes('queued'))
  t.ok(transitions.running.includes('queued'), 'for its retry')
  t.ok(transitions.running.includes('running'), 'for progress, and when another worker claims the job')
})

t.test('Postgres has the same statuses, and requires ended_at exactly in the final ones', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query('select unnest(enum_range(null::accepted.job_status))::text as status')
  t.same(
    rows.map(({ status }) => status),
    statuses,
  )
  const insert = (status: JobStatus, endedAt: Date | null) =>
    pool.query(
      `insert into accepted.job (id, operation, principal, max_attempts, expires_at, status, ended_at, error)
       values (gen_random_uuid(), 'x', 'ann', 1, now(), $1, $2, $3)`,
      [status, endedAt, status === 'failed' ? '{}' : null],
    )
  for (const status of statuses) {
    const [right, wrong] = isFinal(status) ? [new Date(), null] : [null, new Date()]
    t.equal((await insert(status, right)).rowCount, 1)
    await t.rejects(insert(status, wrong), /job_ended_at_when_final/)
  }
})
