import { type Kysely, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { commit, openDatabase, planAndWaitAsUsual, planOnce, together, transactionOn } from '../../src/db/database.ts'
import { isLostConnection } from '../../src/db/sqlstate.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createDatabase } from '../support/database.ts'
import { until } from '../support/until.ts'

async function setUp(t: Test) {
  const url = await createDatabase(t)
  const database = openDatabase({ url, poolSize: 1, applicationName: 'pipelined' })
  t.teardown(() => database.close())
  const watcher = new pg.Client({ connectionString: url })
  await watcher.connect()
  t.teardown(() => watcher.end())
  await watcher.query('create table word (word text primary key)')
  const words = async () => (await watcher.query('select word from word order by word')).rows.map(({ word }) => word)
  const state = async () => {
    const { rows } = await watcher.query("select state from pg_stat_activity where application_name = 'pipelined'")
    return rows[0]?.state
  }
  return { url, database, words, state }
}

const add = (trx: AnyTransaction | Kysely<never>, word: string) => sql`insert into word values (${word})`.execute(trx)

t.test('a transaction begins with its first statement, and is one all the same', async (t) => {
  const { database, words, state } = await setUp(t)
  const client = await database.pool.connect()
  const begun = await client.query('begin')
  t.equal(begun.command, 'BEGIN')
  t.equal(client.getTransactionStatus(), 'T')
  t.not(await state(), 'idle in transaction')
  await client.query("insert into word values ('a')")
  t.equal(await state(), 'idle in transaction')
  t.same(await words(), [])
  t.equal((await client.query('rollback')).command, 'ROLLBACK')
  t.same(await words(), [])
  await client.query('begin')
  t.equal((await client.query('commit')).command, 'COMMIT')
  t.equal(client.getTransactionStatus(), 'I')
  await client.query("insert into word values ('b')")
  t.same(await words(), ['b'], 'no transaction is left open')
  client.release()
})

t.test('with callbacks as well', async (t) => {
  const { database, words } = await setUp(t)
  const client = await database.pool.connect()
  const commands: string[] = []
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  client.query('begin', (error, { command }) => {
    if (error) return reject(error)
    commands.push(command)
    client.query("insert into word values ('a')", (error, { command }) => {
      if (error) return reject(error)
      commands.push(command)
      client.query('commit', (error, { command }) => {
        commands.push(command)
        if (error) reject(error)
        else resolve()
      })
    })
  })
  await promise
  client.release()
  t.same(commands, ['BEGIN', 'INSERT', 'COMMIT'])
  t.same(await words(), ['a'])
})

t.test('a first statement that fails leaves nothing, and the connection can be used again', async (t) => {
  const { database, words } = await setUp(t)
  const failing = database.kysely.transaction().execute((trx) => sql`select 1 / 0`.execute(trx))
  await t.rejects(failing, { code: '22012' })
  await database.kysely.transaction().execute((trx) => add(trx, 'a'))
  t.same(await words(), ['a'])
})

t.test(
  'a first statement that breaks the connection fails the transaction, and nothing runs outside of it',
  async (t) => {
    const { database, words } = await setUp(t)
    const failing = database.kysely.transaction().execute(async (trx) => {
      await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx).catch(() => {})
      await add(trx, 'a')
    })
    t.ok(isLostConnection(await failing.catch((error: unknown) => error)))
    t.same(await words(), [])
    await database.kysely.transaction().execute((trx) => add(trx, 'b'))
    t.same(await words(), ['b'])
  },
)

t.test('a transaction that commits with its last statement', async (t) => {
  const { database, words } = await setUp(t)
  const addAll = (...all: string[]) =>
    database.kysely
      .transaction()
      .execute((trx) => together(trx, (trx) => [...all.map((word) => add(trx, word)), commit(trx)]))
  await addAll('a')
  t.same(await words(), ['a'])
  await t.rejects(addAll('b', 'a'), { code: '23505' })
  t.same(await words(), ['a'])
  await addAll('b')
  t.same(await words(), ['a', 'b'])
})

t.test('what is planned once are our statements, and not those of others', async (t) => {
  const { database } = await setUp(t)
  const settings = async (trx: AnyTransaction) => {
    const { rows } = await sql`
      select current_setting('plan_cache_mode') as mode, current_setting('enable_seqscan') as seqscan`.execute(trx)
    return rows[0]
  }
  const usual = { mode: 'auto', seqscan: 'on' }
  await database.kysely.transaction().execute(async (trx) => {
    const [, ours] = await together(trx, (trx) => [planOnce(trx), settings(trx), planAndWaitAsUsual(trx)])
    t.same(ours, { mode: 'force_generic_plan', seqscan: 'off' })
    t.same(await settings(trx), usual)
    await planOnce(trx)
  })
  await database.kysely.transaction().execute(async (trx) => t.same(await settings(trx), usual))
})

t.test('a transaction that cannot begin: nothing is done outside of it', async (t) => {
  const { database, words } = await setUp(t)
  const { pool } = database
  for (const statements of [["insert into word values ('a')"], ["insert into word values ('a'); select 1"]]) {
    const client = await pool.connect()
    await client.query('begin isolation level none')
    const all = [...statements, "insert into word values ('b')"].map((text) => client.query(text))
    for (const one of await Promise.allSettled(all)) t.equal(one.status, 'rejected')
    await t.rejects(client.query('commit'))
    client.release()
  }
  t.same(await words(), [])
  await database.kysely.transaction().execute((trx) => add(trx, 'c'))
  t.same(await words(), ['c'])
})

t.test('what is left open when a connection is given back is not the next one’s', async (t) => {
  const { database, words } = await setUp(t)
  const { pool } = database
  for (const statements of [['begin'], ['begin', "insert into word values ('a')"]]) {
    const client = await pool.connect()
    for (const text of statements) await client.query(text)
    client.release()
    await pool.query("insert into word values ('b')")
    t.same(await words(), ['b'])
    await pool.query('delete from word')
  }
})

t.test('a savepoint that is sent beside a statement that fails is gone back to', async (t) => {
  const { database, words } = await setUp(t)
  const client = await database.pool.connect()
  const texts = ['begin', "insert into word values ('a')", 'savepoint one', 'select 1 / 0', 'rollback to savepoint one']
  const all = await Promise.allSettled(texts.map((text) => client.query(text)))
  t.same(
    all.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  )
  await client.query('commit')
  client.release()
  t.same(await words(), ['a'])
})

t.test('a value that cannot be sent fails its statement, and nothing else', async (t) => {
  const { database, words } = await setUp(t)
  for (let round = 0; round < 3; round++) {
    await database.kysely.transaction().execute(async (trx) => {
      await t.rejects(sql`insert into word values (${{ odd: 1n }})`.execute(trx), TypeError)
      await sql`insert into word values (${`a${round}`})`.execute(trx)
    })
  }
  t.same(await words(), ['a0', 'a1', 'a2'])
  await t.rejects(database.pool.query(null as never))
})

t.test('with callbacks, too, what has failed is rolled back', async (t) => {
  const { database, words } = await setUp(t)
  const client = await database.pool.connect()
  const { promise, resolve } = Promise.withResolvers<unknown>()
  client.query("begin; insert into word values ('a'); select 1 / 0", () => {
    client.query('rollback', (error) => resolve(error))
  })
  t.notOk(await promise)
  t.equal(client.getTransactionStatus(), 'I')
  client.release()
  await database.pool.query("insert into word values ('b')")
  t.same(await words(), ['b'])
})

t.test('what is cut off ends, whatever it is doing', async (t) => {
  const { database, state } = await setUp(t)
  const cutOff = database.kysely
    .transaction()
    .execute((trx) => together(trx, (trx) => [sql`select pg_sleep(60)`.execute(trx), add(trx, 'a'), commit(trx)]))
  const failing = t.rejects(cutOff, /Connection terminated|Client was closed/)
  await until(async () => (await state()) === 'active')
  database.cutOff()
  await failing
})

t.test('what is done together: in order, and all or nothing', async (t) => {
  const { url, database, words } = await setUp(t)
  const done = await database.kysely
    .transaction()
    .execute((trx) => together(trx, (trx) => [add(trx, 'a'), Promise.resolve('nothing to send'), add(trx, 'b')]))
  t.equal(done[1], 'nothing to send')
  t.same(await words(), ['a', 'b'])
  const failing = database.kysely
    .transaction()
    .execute((trx) => together(trx, (trx) => [add(trx, 'c'), add(trx, 'a'), add(trx, 'd')]))
  await t.rejects(failing, { code: '23505' }, 'the first error, and not that the transaction is aborted')
  t.same(await words(), ['a', 'b'])

  const plain = new pg.Client({ connectionString: url })
  await plain.connect()
  t.teardown(() => plain.end())
  await plain.query('begin')
  const trx = transactionOn(plain)
  await together(trx, (trx) => [add(trx, 'e'), add(trx, 'f')])
  await plain.query('commit')
  t.same(await words(), ['a', 'b', 'e', 'f'])
})
