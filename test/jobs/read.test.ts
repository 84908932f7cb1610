import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { openDatabase } from '../../src/db/database.ts'
import { findJob, findJobs, readWholeJob } from '../../src/jobs/read.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note', input: Type.Object({}), result: Type.Unknown() })

/** Adds a job of ann with a large result, and returns functions that read it through a connection of their own. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const id = await jobs.add(note, {})
  // Random text cannot be compressed, so it is stored in the TOAST table. The blocks that the update writes also count
  // as read, so its statistics are flushed before the test counts.
  await jobs.query(
    `with updated as (
      update accepted.job set status = 'succeeded', ended_at = now(), result = to_jsonb((
        select string_agg(md5(n::text), '') from generate_series(1, 20000) as n
      )) where id = $1 returning id
    )
    select pg_stat_force_next_flush() from updated`,
    [id],
  )
  const reader = openDatabase({ ...jobs.database.options, poolSize: 1 })
  t.teardown(() => reader.close())
  await findJob(reader.kysely, uuid7(), { principal: 'ann' })

  /** Counts the blocks of the TOAST table that the work reads. */
  const toastBlocks = async (work: () => Promise<unknown>): Promise<number> => {
    const read = async () => {
      await reader.pool.query('select pg_stat_force_next_flush()')
      const [row] = await jobs.query(
        `select sum(toast_blks_read + toast_blks_hit)::int as blocks
        from pg_statio_all_tables join pg_partition_tree('accepted.job') on pg_partition_tree.relid = pg_statio_all_tables.relid`,
      )
      return row.blocks as number
    }
    const before = await read()
    await work()
    return (await read()) - before
  }
  return { id, reader, toastBlocks }
}

t.test("reading another principal's job reads nothing of its result, as for an id that never existed", async (t) => {
  const { id, reader, toastBlocks } = await setUp(t)
  t.ok((await toastBlocks(() => readWholeJob(reader.kysely, id))) > 50, 'the result is large')
  t.equal(
    await toastBlocks(() => findJob(reader.kysely, id, { principal: 'ann' })),
    0,
    'not even the owner reads it at once',
  )
  t.equal(await toastBlocks(() => findJob(reader.kysely, id, { principal: 'bob' })), 0)
  t.equal(await findJob(reader.kysely, id, { principal: 'bob' }), 'unknown')
  t.equal(await toastBlocks(() => findJobs(reader.kysely, [id], { principal: 'bob' })), 0)
  t.same(await findJobs(reader.kysely, [id], { principal: 'bob' }), new Map([[id, 'unknown']]))
  t.equal(await findJob(reader.kysely, uuid7(), { principal: 'bob' }), 'unknown')
})

t.test("an old id gets the same answer whether it never existed or is another principal's", async (t) => {
  const jobs = await openJobs(t, [note])
  const old = () => uuid7({ msecs: 1_000_000 + Math.floor(Math.random() * 1_000_000) })
  const id = await jobs.add(note, {}, { id: old() })
  const { kysely } = jobs.database
  t.match(await findJob(kysely, id, { principal: 'ann' }), { job: { id } })
  t.equal(await findJob(kysely, id, { principal: 'bob' }), await findJob(kysely, old(), { principal: 'bob' }))
})

t.test('a large result is left out until it is read as JSON text', async (t) => {
  const { id, reader } = await setUp(t)
  t.match(await findJob(reader.kysely, id, { principal: 'ann' }), { job: { id, result: null, is_cut: true } })
  t.match((await findJobs(reader.kysely, [id], { principal: 'ann' })).get(id), {
    job: { id, result: null, is_cut: true },
  })
  t.match((await readWholeJob(reader.kysely, id))?.resultJson, /^"[0-9a-f]{640000}"$/)
  t.equal(await readWholeJob(reader.kysely, uuid7()), undefined)
})

t.test('what is small is read at once, and of an error, only large details are left out', async (t) => {
  const jobs = await openJobs(t, [note])
  const { kysely } = jobs.database
  const id = await jobs.add(note, {})
  const read = async (assignments: string) => {
    await jobs.query(`update accepted.job set ${assignments} where id = $1`, [id])
    const found = await findJob(kysely, id, { principal: 'ann' })
    return typeof found === 'string' ? found : found.job
  }
  const error = (length: number) => ({ code: 'x', message: 'm', details: ['d'.repeat(length)] })
  const setError = (length: number) =>
    `status = 'failed', ended_at = now(), result = null, error = '${JSON.stringify(error(length))}'`
  t.match(await read(`result = to_jsonb(repeat('x', 16000))`), { result: 'x'.repeat(16_000), is_cut: false })
  // Compressed, this text takes a few hundred bytes in the table.
  t.match(await read(`result = to_jsonb(repeat('x', 17000))`), { result: null, is_cut: true })
  t.match(await read(`result = 'null'`), { result: null, is_cut: false })
  t.match(await read(setError(16_000)), { error: error(16_000), is_cut: false })
  t.strictSame(((await read(setError(17_000))) as { error: unknown }).error, { code: 'x', message: 'm' })
  t.strictSame((await readWholeJob(kysely, id))?.job.error, error(17_000))
})
