import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { currentTransactionId, registerCommitCheck } from '../../src/db/commit-check.ts'
import { type Database, openDatabase } from '../../src/db/database.ts'
import { isLostConnection } from '../../src/db/sqlstate.ts'
import { transact } from '../../src/db/transaction.ts'
import type { AnyTransaction } from '../../src/operation.ts'
import { createDatabase } from '../support/database.ts'
import { type ProxyAction, startCommitBreaker, startInterceptor } from '../support/proxy.ts'

// The tests mostly wait, so they run in parallel.
t.jobs = 4

async function open(t: Test, url: string): Promise<Database> {
  const database = openDatabase({ url, poolSize: 2 })
  t.teardown(() => database.close())
  return database
}

/** Creates a database with a table `word`. Its rows show how often each transaction has committed. */
async function setUp(t: Test) {
  const databaseUrl = await createDatabase(t)
  const direct = await open(t, databaseUrl)
  await direct.pool.query('create table word (word text not null)')
  const words = async () => (await direct.pool.query('select word from word order by 1')).rows.map(({ word }) => word)
  return { databaseUrl, direct, words }
}

/** Inserts a word and registers a commit check for it. */
async function insertChecked(kyselyTrx: unknown, word: string): Promise<string> {
  const trx = kyselyTrx as AnyTransaction
  const { rows } = await sql<{ id: string }>`
    insert into word values (${word}) returning ${currentTransactionId} as id`.execute(trx)
  registerCommitCheck(trx, { transactionId: rows[0]?.id, commitProof: sql`select from word where word = ${word}` })
  return word
}

/** Starts a proxy that applies `action` to the first chunk from a client that contains `text`. */
async function startTampering(t: Test, databaseUrl: string, text: string, action: ProxyAction) {
  let hasActed = false
  const url = await startInterceptor(t, databaseUrl, () => ({
    toServer(chunk) {
      if (hasActed || !chunk.includes(text)) return 'pass'
      hasActed = true
      return action
    },
  }))
  return { url, hasActed: () => hasActed }
}

t.test(
  'when the reply to a COMMIT is lost, the commit check finds the commit, and the transaction does not run again',
  async (t) => {
    const { databaseUrl, words } = await setUp(t)
    const proxy = await startCommitBreaker(t, databaseUrl, 'insert into word')
    const database = await open(t, proxy.url)
    t.equal(await transact(database, (trx) => insertChecked(trx, 'once')), 'once')
    t.ok(proxy.hasBroken())
    t.same(await words(), ['once'])
  },
)

for (const [what, text] of [
  ['a COMMIT', 'commit'],
  ['a statement', 'insert into word'],
] as const) {
  t.test(`when ${what} is lost before it reaches Postgres, the transaction runs again`, async (t) => {
    const { databaseUrl, words } = await setUp(t)
    const proxy = await startTampering(t, databaseUrl, text, 'break')
    const database = await open(t, proxy.url)
    t.equal(await transact(database, (trx) => insertChecked(trx, 'once')), 'once')
    t.ok(proxy.hasActed())
    t.same(await words(), ['once'])
  })
}

t.test(
  'without a commit check, a transaction whose COMMIT reply is lost fails, and it does not run again',
  async (t) => {
    const { databaseUrl, words } = await setUp(t)
    const proxy = await startCommitBreaker(t, databaseUrl, 'insert into word')
    const database = await open(t, proxy.url)
    const error = await transact(database, (trx) => sql`insert into word values ('x')`.execute(trx)).catch((e) => e)
    t.ok(isLostConnection(error))
    t.same(await words(), ['x'])
  },
)

t.test('a commit check with the id of another transaction or server makes the transaction run again', async (t) => {
  const { databaseUrl, direct, words } = await setUp(t)
  const { rows } = await direct.pool.query(
    "insert into word values ('other') returning pg_current_xact_id()::text as id",
  )
  for (const transactionId of [rows[0].id, '4611686018427387904']) {
    const proxy = await startTampering(t, databaseUrl, 'commit', 'break')
    const database = await open(t, proxy.url)
    let runs = 0
    await transact(database, async (trx) => {
      runs += 1
      const word = `with ${transactionId}`
      await sql`insert into word values (${word})`.execute(trx)
      const commitProof = sql`select from word where word = ${word}`
      registerCommitCheck(trx as unknown as AnyTransaction, { transactionId, commitProof })
    })
    t.equal(runs, 2)
  }
  t.equal((await words()).length, 3)
})

t.test('an error that the work throws is not retried, even if it has the code of a lost connection', async (t) => {
  const { direct, words } = await setUp(t)
  let runs = 0
  const ownError = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
  const work = async (trx: unknown) => {
    runs += 1
    await insertChecked(trx, 'x')
    throw ownError
  }
  await t.rejects(transact(direct, work), ownError)
  t.equal(runs, 1)
  t.same(await words(), [])
})
