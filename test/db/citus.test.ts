import { defineOperation } from 'accepted'
import { createWorker } from 'accepted/worker'
import Fastify from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { detectCitus, watchNodes } from '../../src/db/citus.ts'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { accepted } from '../../src/http/accepted.ts'
import { servicePaths } from '../../src/http/route-paths.ts'
import { printMigration } from '../../src/migrate/migrate.ts'
import { messageOf, runMigrate } from '../migrate/support.ts'
import { maxRegistrationMs } from '../support/api.ts'
import { fakeCitus } from '../support/citus.ts'
import { ended, get, post } from '../support/client.ts'
import { asRole, createDatabase } from '../support/database.ts'
import { handlersFor } from '../worker/support.ts'

const say = defineOperation({
  name: 'word.say',
  route: { method: 'POST', url: '/words' },
  input: Type.Object({ word: Type.String() }),
})

/** Records the transactions that delete from the table. */
const recordWrites = `
  create table public.write (transaction_id text);
  create function public.record_write() returns trigger language plpgsql security definer as $$
    begin insert into public.write values (pg_current_xact_id()::text); return null; end $$;
  create trigger record after delete on accepted.two_phase for each statement execute function public.record_write();`

async function openCluster(t: Test): Promise<{ url: string; database: Database }> {
  const url = await createDatabase(t)
  const database = openDatabase({ url })
  t.teardown(() => database.close())
  await database.pool.query(fakeCitus)
  return { url, database }
}

async function startApi(t: Test, url: string) {
  const app = Fastify({ pluginTimeout: maxRegistrationMs })
  t.teardown(() => app.close())
  await app.register(accepted, { operations: { say }, routes: servicePaths, database: asRole(url, 'api') })
  return { app, api: await app.listen({ host: '127.0.0.1', port: 0 }) }
}

t.test(
  'where Citus is installed, each accept, enqueue and settle writes once to a table that Citus manages',
  async (t) => {
    const { url, database } = await openCluster(t)
    t.match(await messageOf(startApi(t, url)), /there is no table accepted\.two_phase: run `accepted migrate`/)
    t.match(await printMigration({ url }), /citus_add_local_table_to_metadata\('accepted\.two_phase'\)/)
    await runMigrate({ url })
    t.same(
      (await database.pool.query('select name from managed')).rows,
      [{ name: 'accepted.two_phase' }],
      'no other table',
    )
    t.notMatch(await printMigration({ url }), /two_phase/, 'once')
    await database.pool.query(recordWrites)

    const { app, api } = await startApi(t, url)
    const { status, body } = await post(`${api}/words`, { word: 'posted' })
    t.equal(status, 202)
    const enqueued = await app.accepted.db
      .transaction()
      .execute((trx) => app.accepted.enqueue(trx, say, { word: 'enqueued' }))
    const writesOf = async (ids: readonly string[]) => {
      const { rows } = await database.pool.query(
        `select count(transaction_id)::int as writes from accepted.job left join write on transaction_id = job.xmin::text
      where id = any($1) group by id`,
        [ids],
      )
      return rows.map(({ writes }) => writes)
    }
    const ids = [body.id, enqueued.id]
    t.same(await writesOf(ids), [1, 1], 'accepted and enqueued')

    const worker = await createWorker({
      handlers: handlersFor(say, { settle: async () => {} }),
      database: asRole(url, 'worker'),
      log: pino({ level: 'silent' }),
    })
    t.teardown(() => worker.stop())
    t.match(await ended(body.links.self), { status: 'succeeded' })
    t.same(await writesOf([body.id]), [1], 'settled')

    await database.pool.query("update health set result = false where from_nodename = 'one' and to_nodename = 'two'")
    await database.pool.query("update health set result = null where from_nodename = 'two'")
    t.match(await get(`${api}/health/ready`), {
      status: 503,
      body: { detail: 'Citus is without two:5432', error: { code: 'database-unavailable' } },
    })
  },
)

t.test('a role that may not delete from the table, and nodes that do not answer, are reported', async (t) => {
  const { url, database } = await openCluster(t)
  await runMigrate({ url })
  await database.pool.query('revoke delete on accepted.two_phase from accepted_api')
  const api = openDatabase({ url: asRole(url, 'api') })
  t.teardown(() => api.close())
  t.match(await messageOf(detectCitus(api)), /the role may not delete from accepted\.two_phase: run `accepted migrate`/)

  await detectCitus(database)
  t.same(await watchNodes(database)(), [])
  await database.pool.query('update health set seconds = 60')
  t.same(await watchNodes(database)(), ['a node that did not answer within 2 s'])
})

t.test('without Citus, there is no table, and nothing is asked', async (t) => {
  const url = await createDatabase(t)
  const database = openDatabase({ url })
  t.teardown(() => database.close())
  await detectCitus(database)
  t.notOk(database.isDistributed)
  t.same(await watchNodes(database)(), [], 'a function of Citus would be missing')
  t.same((await database.pool.query("select to_regclass('accepted.two_phase') as name")).rows, [{ name: null }])
})
