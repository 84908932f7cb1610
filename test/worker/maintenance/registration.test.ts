import t from 'tap'
import { uuid7 } from '../../../src/primitives/uuid.ts'
import { Registration } from '../../../worker/maintenance/registration.ts'
import { openTestDatabase } from '../../support/database.ts'
import { until } from '../../support/until.ts'

t.test('a write that was still waiting for Postgres does not bring back a deleted row', async (t) => {
  const database = await openTestDatabase(t)
  const query = async (text: string) => (await database.pool.query(text)).rows
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
  await until(async () => (await query("select from pg_locks where not granted and locktype = 'advisory'")).length > 0)
  const deleted = registration.delete()
  // Without the wait for the write, the row is deleted in the meantime.
  await query('select from accepted.worker')
  await blocker?.query('select pg_advisory_unlock(1)')
  blocker?.release()
  await Promise.all([written, deleted])
  t.same(await query('select from accepted.worker'), [])
})
