import t from 'tap'
import type { JobState } from '../../src/db/tables.ts'
import { isFinal, moves, pendingStates } from '../../src/jobs/state.ts'
import { openTestDatabase } from '../support/database.ts'

const states = Object.keys(moves) as JobState[]

t.test('a final state is left by no move, and from every other state every final one can be reached', async (t) => {
  const final = states.filter(isFinal)
  t.same(final, ['succeeded', 'failed', 'canceled'])
  for (const state of final) t.same(moves[state], [])
  for (const state of pendingStates) t.ok(final.every((end) => moves[state].includes(end)))
})

t.test('the states from which SQL lets a job move are those that are not final', async (t) => {
  // What every guard in SQL spells out.
  t.same(pendingStates, ['queued', 'running'])
})

t.test('a job begins by running, and goes back only from there', async (t) => {
  t.ok(moves.queued.includes('running'))
  t.notOk(moves.queued.includes('queued'))
  t.ok(moves.running.includes('queued'), 'for its retry')
  t.ok(moves.running.includes('running'), 'for its progress, and when another worker has it')
})

t.test('Postgres knows the same states, and demands the time of the end in the final ones only', async (t) => {
  const { pool } = await openTestDatabase(t)
  const { rows } = await pool.query('select unnest(enum_range(null::accepted.job_state))::text as state')
  t.same(
    rows.map(({ state }) => state),
    states,
  )
  const insert = (state: JobState, endedAt: Date | null) =>
    pool.query(
      `insert into accepted.job (id, operation, principal, max_attempts, expires_at, state, ended_at, error)
       values (gen_random_uuid(), 'x', 'ann', 1, now(), $1, $2, $3)`,
      [state, endedAt, state === 'failed' ? '{}' : null],
    )
  for (const state of states) {
    const [right, wrong] = isFinal(state) ? [new Date(), null] : [null, new Date()]
    t.equal((await insert(state, right)).rowCount, 1)
    await t.rejects(insert(state, wrong), /job_ended_at_when_final/)
  }
})
