import { sql } from 'kysely'
import t from 'tap'
import { isLostConnection, isOutage } from '../../src/db/sqlstate.ts'
import { until } from '../support/until.ts'
import { insertWord, openWatched } from './support.ts'

t.test('BEGIN is sent with the first statement of the transaction', async (t) => {
  const { database, words, backendState } = await openWatched(t)
  const client = await database.pool.connect()
  t.equal((await client.query('begin')).command, 'BEGIN')
  t.equal(client.getTransactionStatus(), 'T')
  t.not(await backendState(), 'idle in transaction', 'nothing has been sent yet')
  await client.query("insert into word values ('a')")
  t.equal(await backendState(), 'idle in transaction')
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

t.test('a transaction works with callbacks instead of promises', async (t) => {
  const { database, words } = await openWatched(t)
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

t.test('a failed transaction can be rolled back with callbacks', async (t) => {
  const { database, words } = await openWatched(t)
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

t.test('a transaction whose first statement fails changes nothing, and its connection works afterwards', async (t) => {
  const { database, words } = await openWatched(t)
  const failing = database.kysely.transaction().execute((trx) => sql`select 1 / 0`.execute(trx))
  await t.rejects(failing, { code: '22012' })
  await database.kysely.transaction().execute((trx) => insertWord(trx, 'a'))
  t.same(await words(), ['a'])
})

t.test('when the first statement breaks the connection, the transaction rejects its next statement', async (t) => {
  const { database, words } = await openWatched(t)
  const failing = database.kysely.transaction().execute(async (trx) => {
    await sql`select pg_terminate_backend(pg_backend_pid())`.execute(trx).catch(() => {})
    await insertWord(trx, 'a')
  })
  t.ok(isLostConnection(await failing.catch((error: unknown) => error)))
  t.same(await words(), [])
  await database.kysely.transaction().execute((trx) => insertWord(trx, 'b'))
  t.same(await words(), ['b'])
})

t.test('when BEGIN fails, the statements after it do not run', async (t) => {
  const { database, words } = await openWatched(t)
  const { pool } = database
  for (const statements of [["insert into word values ('a')"], ["insert into word values ('a'); select 1"]]) {
    const client = await pool.connect()
    await client.query('begin isolation level none')
    const sent = [...statements, "insert into word values ('b')"].map((text) => client.query(text))
    for (const { status } of await Promise.allSettled(sent)) t.equal(status, 'rejected')
    await t.rejects(client.query('commit'))
    client.release()
  }
  t.same(await words(), [])
  await database.kysely.transaction().execute((trx) => insertWord(trx, 'c'))
  t.same(await words(), ['c'])
})

t.test('when a statement fails, the statements sent together with it do not run after the rollback', async (t) => {
  const { database, words } = await openWatched(t)
  await database.pool.query("insert into word values ('taken')")
  for (let round = 0; round < 5; round++) {
    const failing = database.kysely
      .transaction()
      .execute((trx) => Promise.all(['taken', 'a', 'b', 'c', 'd'].map((word) => insertWord(trx, word))))
    await t.rejects(failing, { code: '23505' })
  }
  await database.pool.query('select 1')
  t.same(await words(), ['taken'])
})

t.test('after a COMMIT that failed, statements are rejected until the next transaction', async (t) => {
  const { database, words } = await openWatched(t)
  await database.pool.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'unwanted'; end $$;
    create constraint trigger refuse after insert on word deferrable initially deferred for each row
    when (new.word = 'bad') execute function refuse()`)
  for (const next of ['rollback', 'begin']) {
    const client = await database.pool.connect()
    await client.query('begin')
    await client.query("insert into word values ('bad')")
    await t.rejects(client.query('commit'), /unwanted/)
    await t.rejects(client.query("insert into word values ('late')"), /The transaction has ended/)
    await client.query(next)
    if (next === 'rollback') await client.query('begin')
    await client.query('insert into word values ($1)', [next])
    await client.query('commit')
    client.release()
  }
  t.same(await words(), ['begin', 'rollback'])
})

t.test('ROLLBACK TO SAVEPOINT runs even if the statement before it fails', async (t) => {
  const { database, words } = await openWatched(t)
  const client = await database.pool.connect()
  const texts = ['begin', "insert into word values ('a')", 'savepoint one', 'select 1 / 0', 'rollback to savepoint one']
  const results = await Promise.allSettled(texts.map((text) => client.query(text)))
  t.same(
    results.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  )
  await client.query('commit')
  client.release()
  t.same(await words(), ['a'])
})

t.test('a value that cannot be encoded makes only its own statement fail', async (t) => {
  const { database, words } = await openWatched(t)
  for (let round = 0; round < 3; round++) {
    await database.kysely.transaction().execute(async (trx) => {
      await t.rejects(sql`insert into word values (${{ unencodable: 1n }})`.execute(trx), TypeError)
      await sql`insert into word values (${`a${round}`})`.execute(trx)
    })
  }
  t.same(await words(), ['a0', 'a1', 'a2'])
  await t.rejects(database.pool.query(null as never))
})

t.test(
  'Postgres ends a transaction that is idle for too long, and the error has the code of this timeout',
  async (t) => {
    const { database, backendState } = await openWatched(t)
    const work = database.kysely.transaction().execute(async (trx) => {
      const { rows } = await sql<{ timeout: string }>`
      select current_setting('idle_in_transaction_session_timeout') as timeout`.execute(trx)
      t.equal(rows[0]?.timeout, '30s')
      await sql`select set_config('idle_in_transaction_session_timeout', '100', true)`.execute(trx)
      await until(async () => (await backendState()) === undefined)
      await sql`select 1`.execute(trx)
    })
    const error = await work.catch((error) => error)
    t.match(error, { code: '25P03' })
    t.notOk(isOutage(error), 'the error is not an outage, so it is not retried without limit')
    const { rows } = await database.pool.query(
      "select current_setting('idle_in_transaction_session_timeout') as timeout",
    )
    t.equal(rows[0].timeout, '0', 'the timeout applies only within transactions')
  },
)
