import pg from 'pg'
import t from 'tap'
import { commit, pipeline } from '../../src/db/pipeline.ts'
import { transactionOn } from '../../src/db/transaction-on.ts'
import { insertWord, openWatched } from './support.ts'

t.test('pipelined statements run in order', async (t) => {
  const { database, words } = await openWatched(t)
  const results = await database.kysely
    .transaction()
    .execute((trx) =>
      pipeline(trx, (trx) => [insertWord(trx, 'a'), Promise.resolve('sends nothing'), insertWord(trx, 'b')]),
    )
  t.equal(results[1], 'sends nothing')
  t.same(await words(), ['a', 'b'])
})

t.test('when a pipelined statement fails, nothing is kept and its own error is thrown', async (t) => {
  const { database, words } = await openWatched(t)
  await database.pool.query("insert into word values ('a')")
  const failing = database.kysely
    .transaction()
    .execute((trx) => pipeline(trx, (trx) => [insertWord(trx, 'c'), insertWord(trx, 'a'), insertWord(trx, 'd')]))
  await t.rejects(failing, { code: '23505' })
  t.same(await words(), ['a'])
})

t.test('a transaction can commit with its last statement', async (t) => {
  const { database, words } = await openWatched(t)
  const insertAll = (...all: string[]) =>
    database.kysely
      .transaction()
      .execute((trx) => pipeline(trx, (trx) => [...all.map((word) => insertWord(trx, word)), commit(trx)]))
  await insertAll('a')
  t.same(await words(), ['a'])
  await t.rejects(insertAll('b', 'a'), { code: '23505' })
  t.same(await words(), ['a'])
  await insertAll('b')
  t.same(await words(), ['a', 'b'])
})

t.test("in a transaction on an app's own client the statements run one after another", async (t) => {
  const { url, words } = await openWatched(t)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())
  await client.query('begin')
  await pipeline(transactionOn(client), (trx) => [insertWord(trx, 'a'), insertWord(trx, 'b')])
  await client.query('commit')
  t.same(await words(), ['a', 'b'])
})
