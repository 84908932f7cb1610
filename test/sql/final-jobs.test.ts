import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { openJobs } from '../support/jobs.ts'
import { sqlError } from './support.ts'

// The guards hold however a statement reaches the row.
const note = defineOperation({ name: 'note.create', input: Type.Unknown(), retry: { limit: 0 } })
const jobs = await openJobs(t, [note])
const { query, read } = jobs
await query('create view own_view as select * from accepted.job')

const ends = {
  succeeded: `'succeeded', now(), null`,
  failed: `'failed', now(), '{"code": "x", "message": "x"}'`,
  canceled: `'canceled', now(), null`,
  queued: `'queued', null, null`,
}

/** Inserts a job in a partition of a day, or in the default partition, and returns its id and the partition. */
async function insert(values: string, id = 'accepted.uuid7()'): Promise<{ id: string; partition: string }> {
  const [row] = await query(
    `insert into accepted.job (id, operation, principal, max_attempts, expires_at, status, ended_at, error)
    values (${id}, 'note.create', 'ann', 1, now(), ${values}) returning id, tableoid::regclass::text as partition`,
  )
  return row
}

/** Statements that change the row of a job: `change` refers to the row as `j`. */
const routes: Readonly<Record<string, (change: string, row: { id: string; partition: string }) => string>> = {
  update: (change, { id }) => `update accepted.job j set ${change} where id = '${id}'`,
  'update of the partition': (change, { id, partition }) => `update ${partition} j set ${change} where id = '${id}'`,
  'update of a view': (change, { id }) => `update own_view j set ${change} where id = '${id}'`,
  merge: (change, { id }) =>
    `merge into accepted.job j using (values ('${id}'::uuid)) given (id) on j.id = given.id
    when matched and j.principal = 'nobody' then update set message = 'x'
    when matched then update set ${change}`,
  'on conflict': (change, { id }) =>
    `insert into accepted.job as j (id, operation, principal, max_attempts, expires_at)
    values ('${id}', 'note.create', 'ann', 1, now()) on conflict (id) do update set ${change}`,
}

for (const [route, statement] of Object.entries(routes)) {
  t.test(`${route}: a final status, the id, the operation and the time of creation never change`, async (t) => {
    for (const place of ['accepted.uuid7()', `'01a00000-0000-7000-8000-${String(Date.now()).slice(-12)}'`]) {
      for (const [status, values] of Object.entries(ends)) {
        const row = await insert(values, place)
        const before = await read(row.id)
        const moves = [
          ['id = accepted.uuid7()', /^the id of/],
          [`operation = 'note.other'`, /^the operation of/],
          [`created_at = j.created_at - interval '1 hour'`, /^the time of creation of/],
          [`message = 'x', created_at = now() + interval '1 hour'`, /^the time of creation of/],
        ] as [string, RegExp][]
        if (status !== 'queued') {
          for (const next of ['queued', 'running', 'succeeded', 'failed', 'canceled'].filter((one) => one !== status)) {
            const error = next === 'failed' ? `'{}'::jsonb` : 'null'
            // Another final status can keep the time of the end, so the statement need not name it.
            const end = next === 'queued' || next === 'running' ? ', ended_at = null' : ''
            moves.push([`status = '${next}', error = ${error}${end}`, /final status never changes/])
          }
        }
        for (const [change, message] of moves) {
          t.match(await sqlError(query(statement(change, row))), { code: '23001', message }, `${status}: ${change}`)
        }
        t.same(await read(row.id), before)
        await query(statement('status = j.status, id = j.id, operation = j.operation, created_at = j.created_at', row))
        t.same(await read(row.id), before, `${status}: naming the columns changes nothing`)
        await query(`alter table accepted.job disable trigger job_pending_not_deleted`)
        await query('delete from accepted.job')
        await query(`alter table accepted.job enable trigger job_pending_not_deleted`)
      }
    }
  })
}

t.test('a status and the time of the end belong together', async (t) => {
  for (const [values, constraint] of [
    [`'queued', now(), null`, 'job_ended_at_when_final'],
    [`'running', now(), null`, 'job_ended_at_when_final'],
    [`'succeeded', null, null`, 'job_ended_at_when_final'],
    [`'failed', null, '{}'`, 'job_ended_at_when_final'],
    [`'canceled', null, null`, 'job_ended_at_when_final'],
    [`'failed', now(), null`, 'job_error_when_failed'],
    [`'canceled', now(), '{}'`, 'job_error_when_failed'],
  ] as const) {
    t.match(await sqlError(insert(values)), { code: '23514', constraint }, values)
  }
})

t.test('only a UUIDv7 can be an id, also in a copy', async (t) => {
  const withVersion = (digit: string) => `'01a77777-7777-${digit}777-b777-777777777777'`
  for (const digit of '012345689abcdef') {
    const error = await sqlError(insert(ends.queued, withVersion(digit)))
    t.match(error, { code: '23001', message: /is not a UUIDv7/ }, digit)
  }
  t.match(await insert(ends.queued, withVersion('7')), { partition: 'accepted.job_default' })
  t.match(await insert(ends.queued, `'01A00000-0000-7000-8000-000000000000'`), { id: /^01a/ })
  const copy = (id: string) =>
    query(`copy accepted.job (id, operation, principal, max_attempts, expires_at)
      from program 'echo ${id},note.create,ann,1,2030-01-01' (format csv)`)
  t.match(await sqlError(copy('01a00000-0000-4000-8000-000000000001')), { code: '23001' })
  await copy('01a00000-0000-7000-8000-000000000001')
  t.match(await read('01a00000-0000-7000-8000-000000000001'), { status: 'queued' })
})
