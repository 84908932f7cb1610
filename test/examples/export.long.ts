import t from 'tap'
import { ended, post } from '../support/client.ts'
import { beginTransaction, findBlockedBackends, openTestDatabase } from '../support/database.ts'
import { start } from '../support/program.ts'
import { until } from '../support/until.ts'

t.test('an export whose worker stops in the middle starts again, and uses up no attempt', async (t) => {
  const database = await openTestDatabase(t)
  const databaseUrl = database.options.url
  const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
  // Holds the export back after its first part.
  await query(`
    insert into todo (id, title, status) select accepted.uuid7(), 'todo ' || n, 'ready' from generate_series(1, 1500) n;
    create function hold_back() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(7); return new; end $$;
    create trigger hold_back before insert on todo_export_part
      for each row when (new.position = 1) execute function hold_back()`)
  const lock = await beginTransaction(t, database, 'select pg_advisory_xact_lock(7)')
  const [api, worker] = await Promise.all([
    start(t, 'api', { databaseUrl }),
    start(t, 'worker', { databaseUrl, env: { GRACE_SECONDS: '0' } }),
  ])
  const { body } = await post(`${api.url}/exports`, { format: 'ndjson' })
  await until(async () => (await findBlockedBackends(query, '%todo_export_part%')).length > 0)
  await worker.end('SIGTERM')
  t.match(await query('select status from accepted.job'), [{ status: 'queued' }], 'the worker has released the job')
  await lock.commit()
  await start(t, 'worker', { databaseUrl })
  t.match(await ended(body.links.self), { status: 'succeeded', attempt: 1 })
  const lines = (await (await fetch(body.links.result)).text()).trim().split('\n')
  t.equal(new Set(lines).size, 1500)
  t.equal(lines.length, 1500)
})
