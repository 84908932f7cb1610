import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { isLostConnection, isOutage } from '../../src/db/sqlstate.ts'
import { currentId, leaveTrace, transact } from '../../src/db/transaction.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createDatabase } from '../support/database.ts'
import { freePort } from '../support/program.ts'
import { breakCommit, type Fate, startInterceptor } from '../support/proxy.ts'
import { until } from '../support/until.ts'

// Most of the time is spent waiting for answers that do not come.
t.jobs = 4

async function openWay(t: Test, url: string): Promise<Database> {
  const database = openDatabase({ url, poolSize: 2 })
  t.teardown(() => database.close())
  return database
}

async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const direct = await openWay(t, databaseUrl)
  await direct.pool.query('create table word (word text not null)')
  const words = async () => (await direct.pool.query('select word from word order by 1')).rows.map(({ word }) => word)
  return { databaseUrl, direct, words }
}

const write = (word: string) => async (trx: AnyTransaction) => {
  const { rows } = await sql<{ id: string }>`
    insert into word values (${word}) returning ${currentId} as id`.execute(trx)
  leaveTrace(trx, { id: rows[0]?.id, witness: sql`select from word where word = ${word}` })
  return word
}

/** A proxy that does something to the first piece that holds the words, on its way to Postgres. */
async function startTampering(t: Test, databaseUrl: string, words: string, fate: Fate) {
  let isDone = false
  const url = await startInterceptor(t, databaseUrl, () => ({
    there(piece) {
      if (isDone || !piece.includes(words)) return 'pass'
      isDone = true
      return fate
    },
  }))
  return { url, isDone: () => isDone }
}

t.test(
  'a commit whose answer is lost has happened: what the work said is true, and it is not done again',
  async (t) => {
    const { databaseUrl, words } = await setUp(t)
    const way = await breakCommit(t, databaseUrl, 'insert into word')
    const database = await openWay(t, way.url)
    t.equal(await transact(database, (trx) => write('once')(trx as unknown as AnyTransaction)), 'once')
    t.ok(way.broken())
    t.same(await words(), ['once'])
  },
)

for (const [what, piece] of [
  ['a commit that is lost on its way', 'commit'],
  ['a statement that is lost on its way', 'insert into word'],
] as const) {
  t.test(`${what} has not happened: the transaction runs again`, async (t) => {
    const { databaseUrl, words } = await setUp(t)
    const way = await startTampering(t, databaseUrl, piece, 'break')
    const database = await openWay(t, way.url)
    t.equal(await transact(database, (trx) => write('once')(trx as unknown as AnyTransaction)), 'once')
    t.ok(way.isDone())
    t.same(await words(), ['once'])
  })
}

t.test('a commit of which nobody remembers the id is not guessed at', async (t) => {
  const { databaseUrl, words } = await setUp(t)
  const way = await breakCommit(t, databaseUrl, 'insert into word')
  const database = await openWay(t, way.url)
  const error = await transact(database, (trx) => sql`insert into word values ('x')`.execute(trx)).catch((e) => e)
  t.ok(isLostConnection(error))
  t.same(await words(), ['x'])
})

t.test(
  "an id that has become another transaction's, or none of this server's, proves nothing: the rows do",
  async (t) => {
    const { databaseUrl, direct, words } = await setUp(t)
    const { rows } = await direct.pool.query(
      'insert into word values ($1) returning pg_current_xact_id()::text as id',
      ['other'],
    )
    for (const id of [rows[0].id, '4611686018427387904']) {
      const way = await startTampering(t, databaseUrl, 'commit', 'break')
      const database = await openWay(t, way.url)
      let runs = 0
      await transact(database, async (trx) => {
        runs += 1
        await sql`insert into word values (${`with ${id}`})`.execute(trx)
        const witness = sql`select from word where word = ${`with ${id}`}`
        leaveTrace(trx as unknown as AnyTransaction, { id, witness })
      })
      t.equal(runs, 2)
    }
    t.equal((await words()).length, 3)
  },
)

t.test('what an error of the work is, is not done again', async (t) => {
  const { direct, words } = await setUp(t)
  let runs = 0
  const refused = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
  const work = async (trx: unknown) => {
    runs += 1
    await write('x')(trx as AnyTransaction)
    throw refused
  }
  await t.rejects(transact(direct, work), refused)
  t.equal(runs, 1)
  t.same(await words(), [])
})

t.test('Postgres that is away is told from a service of the app that is', async (t) => {
  const database = await openWay(t, 'postgres://127.0.0.1:1/x')
  for (const attempt of [database.pool.query('select 1'), sql`select 1`.execute(database.kysely)]) {
    const error = await attempt.then(
      () => undefined,
      (error: unknown) => error,
    )
    t.match(error, { code: 'ECONNREFUSED' })
    t.ok(isOutage(error))
    t.notOk(isLostConnection(error), 'nothing was under way')
  }
  const other = await fetch(`http://127.0.0.1:${await freePort()}`).catch((error) => error)
  t.match(other.cause, { code: 'ECONNREFUSED' })
  t.notOk(isOutage(other))
  t.notOk(isOutage(other.cause))
})

t.test('a connection that the network has swallowed is broken; one that is at work is not', async (t) => {
  const { databaseUrl, words } = await setUp(t)
  const way = await startTampering(t, databaseUrl, 'insert into word', 'silence')
  const database = await openWay(t, way.url)
  const atWork = database.pool.query('select pg_sleep(16)')
  t.equal(await transact(database, (trx) => write('once')(trx as unknown as AnyTransaction)), 'once')
  t.ok(way.isDone())
  t.same(await words(), ['once'])
  t.equal((await atWork).rows.length, 1)
})

t.test('what is sent beside a statement that fails does not slip behind the rollback', async (t) => {
  const { direct, words } = await setUp(t)
  await direct.pool.query('alter table word add constraint word_key unique (word)')
  await direct.pool.query("insert into word values ('taken')")
  for (let times = 0; times < 5; times++) {
    const work = direct.kysely
      .transaction()
      .execute((trx) =>
        Promise.all(['taken', 'a', 'b', 'c', 'd'].map((word) => sql`insert into word values (${word})`.execute(trx))),
      )
    await t.rejects(work, { code: '23505' })
  }
  await direct.pool.query('select 1')
  t.same(await words(), ['taken'])
})

t.test('a transaction in which nothing happens for long is ended, and the error says why', async (t) => {
  const { direct } = await setUp(t)
  const work = direct.kysely.transaction().execute(async (trx) => {
    const { rows } = await sql<{ idle: string }>`
      select current_setting('idle_in_transaction_session_timeout') as idle`.execute(trx)
    t.equal(rows[0]?.idle, '30s')
    await sql`select set_config('idle_in_transaction_session_timeout', '100', true)`.execute(trx)
    const ended = async () =>
      (
        await direct.pool.query(
          "select from pg_stat_activity where state = 'idle in transaction' and datname = current_database()",
        )
      ).rows.length === 0
    await until(ended)
    await sql`select 1`.execute(trx)
  })
  const error = await work.catch((error) => error)
  t.match(error, { code: '25P03' })
  t.notOk(isOutage(error), 'it is not done again for ever')
  const { rows } = await direct.pool.query("select current_setting('idle_in_transaction_session_timeout') as idle")
  t.equal(rows[0].idle, '0')
})
