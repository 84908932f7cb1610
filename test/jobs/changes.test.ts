import { defineOperation } from 'accepted'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { type ChangePosition, shorten } from '../../src/jobs/change-position.ts'
import { readChangePosition, readChanges, readChangesSince } from '../../src/jobs/changes.ts'
import { deleteOldChanges } from '../../worker/maintenance/old-changes.ts'
import { beginTransaction, createDatabase, queryOnce } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({}) })

async function setUp(t: Test) {
  const jobs = await openJobs(t, [note])
  const { kysely } = jobs.database
  return {
    ...jobs,
    position: () => readChangePosition(kysely),
    poll: async (since: ChangePosition) => {
      const { jobs, position } = await readChanges(kysely, {
        ...{ watched: new Map(), notified: [], principals: ['ann'], since },
      })
      return { ids: jobs.map(({ id }) => id), position: position as ChangePosition }
    },
    missed: async (since: ChangePosition) =>
      (await readChangesSince(kysely, { principal: 'ann', since, limit: 100 }))?.jobs.map(({ id }) => id),
    /** Deletes changes, as if 10 minutes had passed. */
    age: async () => {
      await jobs.query("update accepted.change_expiry set next_at = next_at - interval '11 minutes'")
      await deleteOldChanges(jobs.database, new AbortController().signal)
    },
  }
}

t.test('changes are deleted after 10 to 20 minutes, and then an older position is refused', async (t) => {
  const { add, query, position, missed, age } = await setUp(t)
  const before = await position()
  const id = await add(note, {})
  await age()
  t.same(await missed(before), [id])
  await age()
  t.same(await query('select job_ids from accepted.change'), [])
  t.equal(await missed(before), undefined)
  t.same(await missed(await position()), [])
})

t.test('a transaction that stays open does not keep old changes, and its own change is found', async (t) => {
  const { add, query, position, poll, missed, age, database } = await setUp(t)
  const id = await add(note, {})
  const slow = await beginTransaction(t, database, 'update accepted.job set sequence = 2, updated_at = now()')
  await add(note, {})
  const during = await position()
  await age()
  await age()
  t.same(await query('select from accepted.change'), [])
  const first = await poll(during)
  t.same(first.ids, [])
  await slow.commit()
  t.equal(await missed(during), undefined)
  t.same(await missed(first.position), [id])
  const second = await poll(first.position)
  t.same(second.ids, [id])
  t.same((await poll(second.position)).ids, [])
})

t.test('a position of another server is refused, and changes that a dump has restored are deleted', async (t) => {
  const { query, poll, position, missed, age } = await setUp(t)
  await query(`
    insert into accepted.change (xid, job_ids, principal_hashes)
    values ('900000000000', array[gen_random_uuid()], array[hashtext('ann')])`)
  t.same((await poll(await position())).ids, [])
  t.equal(await missed('900000000000:900000000000:'), undefined)
  await age()
  t.same(await query('select from accepted.change'), [])
})

t.test('after a restore from a dump of a server with higher transaction ids, new changes are kept', async (t) => {
  const url = await createDatabase(t)
  await queryOnce(
    url,
    `update accepted.change_expiry
    set deleted = '900000000:900000000:', next = '900000100:900000100:', next_at = now() - interval '1 hour'`,
  )
  const deleteOld = () => queryOnce(url, 'select accepted.delete_old_changes(100)')
  await deleteOld()
  const [change] = await queryOnce(
    url,
    `insert into accepted.change (xid, job_ids, principal_hashes) values (pg_current_xact_id(), '{}', '{}')
    returning xid`,
  )
  await deleteOld()
  t.same(await queryOnce(url, 'select xid from accepted.change'), [change])
  const known =
    'select pg_snapshot_xmax(deleted) <= pg_snapshot_xmax(pg_current_snapshot()) as known from accepted.change_expiry'
  t.same(await queryOnce(url, known), [{ known: true }], 'a reader can continue from a new position')
})

t.test('a bulk change, a change by a trigger and a rolled back change', async (t) => {
  const { add, query, poll, position, database } = await setUp(t)
  const [first, second] = [await add(note, {}), await add(note, {}, { principal: 'bob' })]
  const since = await position()
  await query(`
    create function touch() returns trigger language plpgsql as $$
    begin
      update accepted.job set sequence = sequence + 1, updated_at = now() where id = new.job_id;
      return null;
    end $$;
    create trigger touch after insert on effect for each row execute function touch()`)
  await query("insert into effect values ($1, 'x'), ($2, 'x')", [first, second])
  t.same((await poll(since)).ids, [first])
  const later = await position()
  const open = await beginTransaction(t, database, 'update accepted.job set sequence = sequence + 1')
  await open.client.query('rollback')
  t.same((await poll(later)).ids, [])
  await query(`
    insert into accepted.job (id, operation, principal, max_attempts, expires_at)
    select accepted.uuid7(), operation, principal, max_attempts, expires_at
    from accepted.job, generate_series(1, 5000) where principal = 'ann'`)
  t.equal((await poll(shorten(later))).ids.length, 5000)
})
