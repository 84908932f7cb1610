import { randomUUID } from 'node:crypto'
import { defineOperation } from 'accepted'
import t from 'tap'
import { openDatabase } from '../../src/db/database.ts'
import { startBoss } from '../../src/queue/boss.ts'
import { openJobs } from '../support/jobs.ts'
import { Word } from '../worker/support.ts'

const say = defineOperation({ name: 'word.say', input: Word })
const waitingJobs = 20_000

t.test('pg-boss finds expired attempts and overdue heartbeats by our index, but no jobs that end', async (t) => {
  const jobs = await openJobs(t, [say])
  // One connection, so that all that was read counts before the last query.
  const database = openDatabase({ ...jobs.database.options, poolSize: 1 })
  t.teardown(() => database.close())
  const boss = await startBoss(database, { supervise: false, onError: (error) => t.fail(error.message) })
  t.teardown(() => boss.stop({ graceful: false }))
  await jobs.query(`
    begin;
    -- The guard requires a row in accepted.job.
    set local session_replication_role = 'replica';
    insert into accepted_queue.job (id, name, data, heartbeat_seconds)
    select gen_random_uuid(), 'word.say', '{}', 15 from generate_series(1, ${waitingJobs});
    commit`)
  await jobs.query('vacuum analyze accepted_queue.job_common')
  const countScans = async () => {
    await database.pool.query('select pg_stat_force_next_flush()')
    const { rows } = await database.pool.query(`
      select idx_scan::integer as scans, idx_tup_read::integer as entries
      from pg_stat_user_indexes join pg_inherits on inhrelid = indexrelid
      where inhparent = 'accepted_queue.accepted_active_idx'::regclass`)
    return rows
  }
  t.same(await countScans(), [{ scans: 0, entries: 0 }])
  await boss.supervise()
  t.same(await countScans(), [{ scans: 2, entries: 0 }])
  await boss.complete(say.name, [randomUUID()])
  await boss.fail(say.name, [randomUUID()])
  t.same(await countScans(), [{ scans: 2, entries: 0 }])
})
