import { connect, defineOperation, type OwnTransaction } from 'accepted'
import { fromDrizzle, fromKnex, fromPrisma } from 'accepted/adapters'
import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { pgTable, text, uuid } from 'drizzle-orm/pg-core'
import knex from 'knex'
import pg from 'pg'
import t from 'tap'
import Type from 'typebox'
import { asRole } from '../support/database.ts'
import { openJobs } from '../support/jobs.ts'
import { openPrisma } from './prisma/client.ts'

const note = defineOperation({ name: 'note.create', input: Type.Object({ word: Type.String() }) })
const sealed = defineOperation({
  ...{ name: 'note.rich', input: Type.Object({ word: Type.String() }) },
  ...{ priority: 3, group: () => 'a group', abandon: async () => {} },
})
const operations = { note, sealed }

/** A library's way to run a transaction. */
interface Library {
  /** Runs a transaction of the library. Gives what its adapter makes of it, and a function that writes a row with it. */
  transact(
    work: (trx: OwnTransaction, write: (jobId: string, word: string) => Promise<unknown>) => Promise<void>,
  ): Promise<void>
  /** What the adapter makes of the client itself, outside a transaction. */
  withoutTransaction: OwnTransaction
}

const effect = pgTable('effect', { jobId: uuid('job_id'), word: text() })

t.test('adapters', async (t) => {
  const jobs = await openJobs(t, Object.values(operations))
  const url = asRole(jobs.database.options.url, 'api')
  const accepted = await connect({ operations, database: url })
  t.teardown(() => accepted.close())

  const pool = new pg.Pool({ connectionString: url })
  t.teardown(() => pool.end())
  const drizzleDb = drizzle(pool)
  const knexDb = knex({ client: 'pg', connection: url })
  t.teardown(() => knexDb.destroy())
  const prisma = await openPrisma(url)
  t.teardown(() => prisma.$disconnect())

  const libraries: Record<string, Library> = {
    Drizzle: {
      transact: (work) =>
        drizzleDb.transaction((tx) =>
          work(fromDrizzle(tx, sql), (jobId, word) => tx.insert(effect).values({ jobId, word })),
        ),
      withoutTransaction: fromDrizzle(drizzleDb, sql),
    },
    Knex: {
      transact: (work) =>
        knexDb.transaction((trx) => work(fromKnex(trx), (job_id, word) => trx('effect').insert({ job_id, word }))),
      withoutTransaction: fromKnex(knexDb),
    },
    Prisma: {
      transact: (work) =>
        prisma.$transaction((tx) => work(fromPrisma(tx), (jobId, word) => tx.effect.create({ data: { jobId, word } }))),
      withoutTransaction: fromPrisma(prisma),
    },
  }

  const stored = async () => ({
    words: (await jobs.query('select word from effect order by word')).map(({ word }) => word),
    jobs: (await jobs.query('select operation from accepted.job order by id')).map(({ operation }) => operation),
    queued: (await jobs.query('select count(*)::integer from accepted_queue.job'))[0].count,
  })

  t.test('a transaction of another library without its adapter is refused', async (t) => {
    const add = (trx: unknown) => t.rejects(accepted.enqueue(trx as never, note, { word: 'x' }), /accepted\/adapters/)
    await drizzleDb.transaction(add)
    await knexDb.transaction(add)
    await prisma.$transaction(add)
    await add(pool)
    await add(undefined)
  })

  for (const [name, { transact, withoutTransaction }] of Object.entries(libraries)) {
    t.test(`rows that ${name} writes and jobs commit together, and roll back together`, async (t) => {
      await jobs.query('truncate effect, accepted.job, accepted_queue.job')
      const runAt = new Date(Date.now() + 60_000)
      const work = (fails: boolean) =>
        transact(async (trx, write) => {
          const { id } = await accepted.enqueue(
            trx,
            note,
            { word: "it's $1 ? \\" },
            { key: 'k', runAt, resource: '/x?y' },
          )
          await write(id, name)
          await accepted.enqueueAll(trx, [
            { operation: sealed, payload: { word: 'a' }, principal: 'ann' },
            { operation: note, payload: { word: 'b' }, after: [id], onFailure: 'run' },
          ])
          await accepted.enqueueBatch(trx, { items: [{ operation: note, payload: { word: 'c' } }] })
          if (fails) throw new Error('rolled back')
        })
      await t.rejects(work(true), /rolled back/)
      t.same(await stored(), { words: [], jobs: [], queued: 0 })
      await work(false)
      t.same(await stored(), {
        words: [name],
        jobs: ['note.create', 'note.rich', 'note.create', 'batch', 'note.create'],
        queued: 4,
      })
      const [first] = await jobs.query('select * from accepted.job order by id limit 1')
      t.match(first, { idempotency_key: 'k', resource: '/x?y', principal: 'anonymous', run_at: runAt })
      const [waiting] = await jobs.query('select waiting_for from accepted.job where waiting_for is not null')
      t.same(waiting.waiting_for, [first.id])
      const payloads = await jobs.query(
        "select data -> 'payload' ->> 'word' as word from accepted_queue.job order by 1",
      )
      t.same(
        payloads.map(({ word }) => word),
        ['a', 'b', 'c', "it's $1 ? \\"],
      )
    })

    t.test(`a client of ${name} without a transaction is refused, and nothing is stored`, async (t) => {
      await jobs.query('truncate effect, accepted.job, accepted_queue.job')
      await t.rejects(accepted.enqueue(withoutTransaction, note, { word: 'x' }), /not in a transaction/)
      t.same(await stored(), { words: [], jobs: [], queued: 0 })
    })
  }

  for (const [name, { transact }] of Object.entries(libraries)) {
    t.test(`in a transaction of ${name}, a missing queue is an error that names the queue`, async (t) => {
      await jobs.query('truncate effect, accepted.job, accepted_queue.job')
      await jobs.query("delete from accepted_queue.queue where name = 'note.create'")
      const work = transact(async (trx) => {
        await accepted.enqueueAll(trx, [
          { operation: sealed, payload: { word: 'a' } },
          { operation: note, payload: { word: 'b' } },
        ])
      })
      await t.rejects(work, { message: /^The queue 'note.create' is missing/ })
      t.same(await stored(), { words: [], jobs: [], queued: 0 })
    })
  }
})
