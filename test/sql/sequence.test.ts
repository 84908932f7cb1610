import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Unknown() })
const jobs = await openJobs(t, [note])
const { query, read } = jobs

async function insert(): Promise<string> {
  const id = uuid7()
  await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, sequence, updated_at)
    values ($1, 'note.create', 'ann', 1, now(), 10, now() - interval '1 minute')`,
    [id],
  )
  return id
}

/** Changes a new job. Returns how far its sequence and the time of its change have moved. */
async function change(columns: string): Promise<{ sequence: number; updated: string }> {
  const id = await insert()
  const before = await read(id)
  await query(`update accepted.job set ${columns} where id = $1`, [id])
  const after = await read(id)
  const ms = after.updated_at - before.updated_at
  return {
    sequence: after.sequence - before.sequence,
    updated: ms === 0 ? 'same' : ms < 0 ? 'back' : 'later',
  }
}

t.test('each column that clients see moves the sequence and the time of the change', async (t) => {
  for (const columns of [
    `status = 'running'`,
    `principal = 'bob'`,
    `resource = '/x'`,
    'percent = 5',
    `message = 'x'`,
    'attempt = 1',
    'max_attempts = 2',
    `result = '{}'`,
    'coalesced = 1',
    'cancel_requested = true',
    'retry_of = id',
    'parent = id',
    `children = '{}'`,
    'waiting_for = array[id]',
    'started_at = now()',
    `expires_at = now() + interval '1 day'`,
    `status = 'failed', error = '{}', ended_at = now()`,
    `status = 'canceled', ended_at = now()`,
  ]) {
    t.same(await change(columns), { sequence: 1, updated: 'later' }, columns)
  }
})

t.test('a statement that sets the sequence itself is left alone, unless it goes back', async (t) => {
  for (const [columns, expected] of [
    [`message = 'x', sequence = sequence + 1, updated_at = now()`, { sequence: 1, updated: 'later' }],
    [`message = 'x', sequence = sequence + 5, updated_at = now()`, { sequence: 5, updated: 'later' }],
    [`message = 'x', sequence = sequence + 5`, { sequence: 5, updated: 'same' }],
    [`message = 'x', sequence = sequence + 5, updated_at = '2000-01-01'`, { sequence: 5, updated: 'later' }],
    [`message = 'x', updated_at = '2000-01-01'`, { sequence: 1, updated: 'later' }],
    [`message = 'x', sequence = sequence - 1`, { sequence: 1, updated: 'later' }],
    [`message = 'x', sequence = 0, updated_at = '2000-01-01'`, { sequence: 1, updated: 'later' }],
    ['sequence = sequence - 1', { sequence: 1, updated: 'later' }],
    ['sequence = -1', { sequence: 1, updated: 'later' }],
    ['sequence = sequence', { sequence: 0, updated: 'same' }],
    ['sequence = sequence + 1', { sequence: 1, updated: 'same' }],
  ] as const) {
    t.same(await change(columns), expected, columns)
  }
})

t.test('what clients do not see, and the same values again, leave the sequence as it is', async (t) => {
  for (const columns of [
    `payload = '{}'`,
    `traceparent = 'x'`,
    'after = array[id]',
    'worker_id = id',
    'progress_at = now(), progress_base = 1',
    'message = message, status = status, percent = percent',
  ]) {
    t.same(await change(columns), { sequence: 0, updated: 'same' }, columns)
  }
})

t.test('the time of the change never goes back', async (t) => {
  for (const columns of [`updated_at = '2000-01-01'`, `updated_at = '2000-01-01', sequence = sequence + 1`]) {
    t.not((await change(columns)).updated, 'back', columns)
  }
})

t.test('the guard is on the partitions too, and on those that are created later', async (t) => {
  const id = await insert()
  const [{ partition }] = await query('select tableoid::regclass::text as partition from accepted.job where id = $1', [
    id,
  ])
  await query(`update ${partition} set message = 'x' where id = $1`, [id])
  t.equal((await read(id)).sequence, '11')
  const triggers = (table: string) =>
    query(
      `select tgname, tgenabled, tgtype, tgattr::text, pg_get_triggerdef(oid) ~ 'WHEN' as has_condition
      from pg_trigger where tgrelid = $1::regclass and tgparentid <> 0 order by 1`,
      [table],
    )
  const expected = await triggers('accepted.job_default')
  t.match(
    expected.map(({ tgname }) => tgname),
    [
      ...['job_end_indexed', 'job_final', 'job_id_is_uuid7', 'job_identity', 'job_inserted_ended'],
      ...['job_pending_not_deleted', 'job_sequence'],
    ],
  )
  await query('select * from accepted.create_job_partitions(10)')
  for (const { name } of await query('select name from accepted.job_partitions()')) {
    t.same(await triggers(`accepted.${name}`), expected, name)
  }
})
