import t from 'tap'
import type { JobStatus } from '../../src/db/tables.ts'
import { isFinal, pendingStatuses, transitions } from '../../src/jobs/status.ts'
import { openTestDatabase } from '../support/database.ts'

const statuses = Object.keys(transitions) as JobStatus[]

t.test('a final status has no transitions, and every other status has a transition to each final status', async (t) => {
  const final = statuses.filter(isFinal)
  t.same(final, ['succeeded', 'failed', 'canceled'])
  for (const status of final) t.same(transitions[status], [])
  for (const status of pendingStatuses) t.ok(final.every((end) => transitions[status].includes(end)))
})

t.test('the pending statuses are queued and running', async (t) => {
  // Some SQL statements contain the names of these statuses.
  t.same(pendingStatuses, ['queued', 'running'])
})

t.test('a queued job can become running, and only a running job can become queued', async (t) => {
  t.ok(transitions.queued.includes('running'))
  t.notOk(transitions.queued.includes('queued'))
  t.ok(transitions.running.includes('queued'), 'a running job becomes queued when it waits for its retry')
  t.ok(
    transitions.running.includes('running'),
    'a running job stays running when it reports progress, or when another worker claims it',
  )
})

t.test('Postgres has the same statuses, and ended_at is set if and only if the status is final', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query('select unnest(enum_range(null::accepted.job_status))::text as status')
  t.same(
    rows.map(({ status }) => status),
    statuses,
  )
  const insert = (status: JobStatus, endedAt: Date | null) =>
    pool.query(
      `insert into accepted.job (id, operation, principal, max_attempts, expires_at, status, ended_at, error)
       values (accepted.uuid7(), 'x', 'ann', 1, now(), $1, $2, $3)`,
      [status, endedAt, status === 'failed' ? '{}' : null],
    )
  for (const status of statuses) {
    const [right, wrong] = isFinal(status) ? [new Date(), null] : [null, new Date()]
    t.equal((await insert(status, right)).rowCount, 1)
    await t.rejects(insert(status, wrong), /job_ended_at_when_final/)
  }
})
