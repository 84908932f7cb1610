import { hostname } from 'node:os'
import t from 'tap'
import { uuid7 } from '../../../src/primitives/uuid.ts'
import { deleteSilentWorkers, Registration } from '../../../worker/maintenance/registration.ts'
import { findBlockedBackends, openTestDatabase } from '../../support/database.ts'
import { until } from '../../support/until.ts'

t.test('a write that was still waiting for Postgres does not bring back a deleted row', async (t) => {
  const database = await openTestDatabase(t)
  const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
  const registration = new Registration(database, uuid7(), ['word.say'])
  await registration.write('ready')
  await query(`
    create function wait() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(1); return new; end $$;
    create trigger wait before insert on accepted.worker for each row execute function wait()`)
  const [blocker, ...others] = await Promise.all([1, 2, 3, 4].map(() => database.pool.connect()))
  for (const client of others) client.release()
  await blocker?.query('select pg_advisory_lock(1)')
  const written = registration.write('draining')
  await until(async () => (await findBlockedBackends(query, '%insert into accepted.worker%')).length > 0)
  const deleted = registration.delete()
  // Without the wait for the write, the row is deleted in the meantime.
  await query('select from accepted.worker')
  await blocker?.query('select pg_advisory_unlock(1)')
  blocker?.release()
  await Promise.all([written, deleted])
  t.same(await query('select from accepted.worker'), [])
})

t.test('the name of a worker is known as long as there is a job that it may have had', async (t) => {
  const database = await openTestDatabase(t)
  const query = async (text: string) => (await database.pool.query(text)).rows
  const [stopped, silent] = [uuid7(), uuid7()]
  const registration = new Registration(database, stopped, ['word.say'])
  for (const _ of ['first stop', 'stop of a process whose row another worker has deleted']) {
    await registration.write('ready')
    await registration.delete()
  }
  await query(`
    insert into accepted.worker (id, host, pid, version, operations, heartbeat_at)
    values ('${silent}', 'moon', 7, '0', '{}', now() - interval '11 minutes')`)
  await deleteSilentWorkers(database)
  t.same(await query('select from accepted.worker'), [])
  const names = () =>
    query(`select accepted.worker_name('${stopped}') as stopped, accepted.worker_name('${silent}') as silent`)
  const known = [{ stopped: `${hostname()}:${process.pid}`, silent: 'moon:7' }]
  t.same(await names(), known)

  await query(`
    update accepted.ended_worker set ended_at = now() - case when host = 'moon' then '2 days' else '400 days' end::interval;
    begin;
    set local session_replication_role = replica;
    insert into accepted.job (id, operation, principal, max_attempts, created_at, expires_at)
    values (accepted.uuid_floor(now() - interval '399 days'), 'word.say', 'ann', 1, now() - interval '399 days', now());
    commit`)
  await deleteSilentWorkers(database)
  t.same(await names(), known)
  await query(`
    begin;
    set local session_replication_role = replica;
    update accepted.job set created_at = now() - interval '398 days';
    commit`)
  await deleteSilentWorkers(database)
  t.same(await names(), [{ stopped, silent: 'moon:7' }])
})
