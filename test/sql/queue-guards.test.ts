import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openJobs } from '../support/jobs.ts'
import { sqlError } from './support.ts'

const input = Type.Unknown()
const note = defineOperation({ name: 'note.create', input })
const limited = defineOperation({ name: 'note.limited', input, limit: { concurrency: 2 } })
const jobs = await openJobs(t, [note, limited])
const { query } = jobs
const states = ['created', 'retry', 'active', 'completed', 'cancelled', 'failed']
const isWaiting = (state: string, blocked: boolean) => (state === 'created' || state === 'retry') && !blocked

const insertRow = (id: string, columns: Readonly<Record<string, unknown>>, table = 'job') => {
  const row = { id, name: 'note.limited', data: { job: id }, policy: 'limited', singleton_key: '*', ...columns }
  return query(
    `insert into accepted_queue.${table} (${Object.keys(row)}) values (${Object.keys(row).map((_, n) => `$${n + 1}`)})`,
    Object.values(row),
  )
}
const arrivals = (id: string) =>
  query('select operation, key, due_at from accepted.limit_arrival where job_id = $1 order by id', [id])

t.test('a new row of an operation with a limit arrives if it waits, in any state', async (t) => {
  const startAfter = new Date('2030-01-01T00:00:00Z')
  for (const table of ['job', 'job_common']) {
    for (const state of states) {
      for (const blocked of [false, true]) {
        const title = `${table}: ${state}${blocked ? ', blocked' : ''}`
        const [withKey, withoutKey, standard] = [uuid7(), uuid7(), uuid7()]
        await insertRow(withKey, { state, blocked, start_after: startAfter }, table)
        await insertRow(withoutKey, { state, blocked, singleton_key: null }, table)
        await insertRow(standard, { state, blocked, policy: 'standard' }, table)
        const expected = isWaiting(state, blocked)
        t.same(
          await arrivals(withKey),
          expected ? [{ operation: 'note.limited', key: '*', due_at: startAfter }] : [],
          title,
        )
        t.match(
          await arrivals(withoutKey),
          expected ? [{ key: null, due_at: Number.POSITIVE_INFINITY }] : [],
          `${title}, without a key`,
        )
        t.same(await arrivals(standard), [], `${title}, without a limit`)
      }
    }
  }
})

t.test('a changed row arrives again if it waits', async (t) => {
  for (const table of ['job', 'job_common']) {
    for (const [from, change, count] of [
      [{ state: 'active' }, `state = 'retry'`, 1],
      [{ state: 'active' }, `state = 'created'`, 1],
      [{ state: 'active' }, `state = 'completed'`, 0],
      [{ state: 'created', blocked: true }, 'blocked = false', 1],
      [{ state: 'active', blocked: true }, `state = 'created'`, 0],
      [{ state: 'active' }, `start_after = now()`, 0],
      [{ state: 'active', policy: 'standard' }, `state = 'created', policy = 'limited'`, 1],
      [{ state: 'created', policy: 'standard' }, `policy = 'limited'`, 1],
      [{ state: 'created', policy: 'standard' }, `start_after = now()`, 0],
    ] as const) {
      const id = uuid7()
      await insertRow(id, from, table)
      await query(`update accepted_queue.${table} set ${change} where id = $1`, [id])
      t.equal((await arrivals(id)).length, count, `${table}: ${JSON.stringify(from)}, ${change}`)
    }
    const id = uuid7()
    await insertRow(id, {}, table)
    for (const [change, count] of [
      [`start_after = now() + interval '1 hour'`, 2],
      [`singleton_key = 'x'`, 3],
      ['priority = 5', 3],
      [`data = data || '{"a": 1}'`, 3],
      ['retry_count = 1', 3],
      [`state = 'cancelled'`, 3],
    ] as const) {
      await query(`update accepted_queue.${table} set ${change} where id = $1`, [id])
      t.equal((await arrivals(id)).length, count, `${table}: ${change}`)
    }
  }
})

t.test('an upsert and a merge arrive once', async (t) => {
  const id = uuid7()
  const values = `('${id}', 'note.limited', '{"job": "${id}"}', 'limited', '*', 'active')`
  const columns = '(id, name, data, policy, singleton_key, state)'
  const upsert = (change: string) =>
    query(`insert into accepted_queue.job ${columns} values ${values} on conflict (name, id) do update set ${change}`)
  await upsert(`state = 'retry'`)
  t.same(await arrivals(id), [], 'inserted as active')
  await upsert(`state = 'retry'`)
  t.equal((await arrivals(id)).length, 1, 'updated')
  await query(`merge into accepted_queue.job j using (values (1)) given on j.name = 'note.limited' and j.id = '${id}'
    when matched then update set blocked = true`)
  t.equal((await arrivals(id)).length, 1)
  await query(`merge into accepted_queue.job j using (values (1)) given on j.name = 'note.limited' and j.id = '${id}'
    when matched then update set blocked = false when not matched then insert ${columns} values ${values}`)
  t.equal((await arrivals(id)).length, 2)
})

t.test('rows of other programs are refused, except for those of pg-boss itself', async (t) => {
  const [{ id: known }] = await query(
    `select accepted.enqueue('note.create', run_at => now() + interval '1 day') as id`,
  )
  for (const name of ['__pgboss__send-it', '__pgboss__x', 'x__pgboss__', 'other']) {
    await query(`select accepted_queue.create_queue($1, '{"policy": "standard"}')`, [name])
  }
  const insert = (name: string, data: unknown, table = 'job') =>
    query(`insert into accepted_queue.${table} (id, name, data) values (gen_random_uuid(), $1, $2::jsonb)`, [
      name,
      JSON.stringify(data),
    ])
  for (const table of ['job', 'job_common']) {
    for (const data of [null, {}, [], 'x', 7, { job: null }, { job: 'x' }, { job: known }]) {
      const title = `${table}: ${JSON.stringify(data)}`
      for (const name of ['__pgboss__send-it', '__pgboss__x']) {
        await insert(name, data, table)
        t.pass(`${title} in ${name}`)
      }
      for (const name of ['note.create', 'other', 'x__pgboss__']) {
        t.match(await sqlError(insert(name, data, table)), { code: '23001' }, `${title} in ${name}`)
      }
    }
  }
})

t.test('the error stays the same when a session has sent many rows', async (t) => {
  const client = await jobs.database.pool.connect()
  t.teardown(() => client.release(true))
  const insert = (job: string) =>
    client.query(
      `insert into accepted_queue.job (name, data) values ('note.create', jsonb_build_object('job', $1::text))`,
      [job],
    )
  for (let count = 0; count < 10; count++) {
    t.match(await sqlError(insert(uuid7())), { code: '23001' })
  }
  for (const job of ['garbage', '------------------------------------']) {
    t.match(await sqlError(insert(job)), { code: '23001', hint: /accepted\.enqueue/ }, job)
  }
})
