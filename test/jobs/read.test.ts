import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { openDatabase } from '../../src/db/database.ts'
import { findJob, findJobs } from '../../src/jobs/read.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note', input: Type.Object({}), result: Type.Unknown() })

/** Adds a job of ann with a large result, and opens a connection of its own to read it. */
async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const id = await jobs.add(note, {})
  // Random text cannot be compressed, so it is stored in the TOAST table.
  await jobs.query(
    `update accepted.job set status = 'succeeded', ended_at = now(), result = to_jsonb((
      select string_agg(md5(n::text), '') from generate_series(1, 20000) as n
    )) where id = $1`,
    [id],
  )
  const reader = openDatabase({ ...jobs.database.options, poolSize: 1 })
  t.teardown(() => reader.close())
  return { id, reader }
}

t.test('a large result is left out when several jobs are read, but not when one job is read', async (t) => {
  const { id, reader } = await setUp(t)
  t.match(await findJob(reader.kysely, id, 'ann'), { job: { result: /^[0-9a-f]{640000}$/ } })
  t.match((await findJobs(reader.kysely, [id], 'ann')).get(id), { job: { id, result: null } })
})
