import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openJobs } from '../support/jobs.ts'

// accepted.ended_job has the jobs that failed and the jobs that ended late, and no others.
const note = defineOperation({ name: 'note.create', input: Type.Unknown(), retry: { limit: 0 } })
const jobs = await openJobs(t, [note])
const { query } = jobs

const accepted = '2026-01-01 00:00Z'
const insert = async (columns: string, values: string) => {
  const id = uuid7()
  await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, created_at${columns})
    values ('${id}', 'note.create', 'ann', 1, now(), '${accepted}'${values})`,
  )
  return id
}
const indexed = (id: string) =>
  query('select status, ended_at from accepted.ended_job where job_id = $1 order by ended_at', [id])

const cases = [
  ['succeeded', '2026-01-01 00:00:01Z', 'null', false],
  ['canceled', '2026-01-01 02:59Z', 'null', false],
  ['succeeded', '2026-01-01 03:00Z', 'null', false],
  ['succeeded', '2026-01-01 03:00:00.000001Z', 'null', true],
  ['canceled', '2026-01-09 00:00Z', 'null', true],
  ['failed', '2026-01-01 00:00:01Z', `'{}'`, true],
  ['failed', '2026-01-09 00:00Z', `'{}'`, true],
  // The clock of another machine was behind.
  ['failed', '2025-12-31 23:00Z', `'{}'`, true],
  ['succeeded', '2025-12-31 23:00Z', 'null', false],
] as const

for (const [status, endedAt, error, isIndexed] of cases) {
  const title = `${status} at ${endedAt}: ${isIndexed ? '' : 'not '}in the index`
  const row = isIndexed ? [{ status, ended_at: new Date(endedAt) }] : []
  const change = `status = '${status}', ended_at = '${endedAt}', error = ${error}`
  t.test(title, async (t) => {
    t.same(await indexed(await insert(', status, ended_at, error', `, '${status}', '${endedAt}', ${error}`)), row)
    const updated = await insert('', '')
    await query(`update accepted.job set ${change} where id = $1`, [updated])
    t.same(await indexed(updated), row, 'updated')
    await query(`update accepted.job set message = 'x', ended_at = ended_at where id = $1`, [updated])
    t.same(await indexed(updated), row, 'the same end again')
    const inPartition = await insert('', '')
    await query(
      `do $$ begin execute format('update %s set ${change.replaceAll("'", "''")} where id = %L',
        (select tableoid::regclass from accepted.job where id = '${inPartition}'), '${inPartition}'); end $$`,
    )
    t.same(await indexed(inPartition), row, 'updated in the partition')
    const merged = await insert('', '')
    await query(
      `merge into accepted.job j using (values (1)) given on j.id = '${merged}' when matched then update set ${change}`,
    )
    t.same(await indexed(merged), row, 'merged')
    const upserted = await insert('', '')
    await query(
      `insert into accepted.job (id, operation, principal, max_attempts, expires_at)
      values ('${upserted}', 'note.create', 'ann', 1, now()) on conflict (id) do update set ${change}`,
    )
    t.same(await indexed(upserted), row, 'on conflict')
  })
}

t.test('a copy of ended jobs enters them, and a pending job has no entry', async (t) => {
  const [pending, failed, early, late] = [uuid7(), uuid7(), uuid7(), uuid7()]
  for (const [id, end] of [
    [pending, 'queued,,'],
    [failed, 'failed,2026-01-01 00:01Z,{}'],
    [early, 'canceled,2026-01-01 00:01Z,'],
    [late, 'canceled,2026-01-01 04:00Z,'],
  ]) {
    await query(`copy accepted.job (id, operation, principal, max_attempts, expires_at, created_at, status, ended_at, error)
      from program 'echo "${id},note.create,ann,1,2030-01-01,${accepted},${end}"' (format csv)`)
  }
  const entered = await query('select job_id from accepted.ended_job where job_id = any($1)', [
    [pending, failed, early, late],
  ])
  t.same(entered.map(({ job_id }) => job_id).sort(), [failed, late].sort())
})

t.test('an end that moves gets another entry, and a change without an end gets none', async (t) => {
  const id = await insert(', status, ended_at, error', `, 'failed', '2026-01-01 00:01Z', '{}'`)
  await query(`update accepted.job set ended_at = '2026-01-01 00:02Z' where id = $1`, [id])
  t.equal((await indexed(id)).length, 2)
  await query(`update accepted.job set message = 'x', error = '{"code": "y"}' where id = $1`, [id])
  t.equal((await indexed(id)).length, 2)
})
