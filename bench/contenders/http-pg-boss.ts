// pg-boss, as its documentation suggests: each request inserts a domain row and calls `send` in one transaction.
import { type TypeBoxTypeProvider, TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import Fastify from 'fastify'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { fromKysely, PgBoss } from 'pg-boss'
import Type from 'typebox'
import { v7 as uuid7 } from 'uuid'
import { idleTimeoutMillis } from '../core/module.ts'

const connectionString = process.env.DATABASE_URL as string
const pool = new pg.Pool({ connectionString, max: 10, idleTimeoutMillis })
const db = new Kysely<{ note: { id: string; text: string } }>({ dialect: new PostgresDialect({ pool }) })
const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
await boss.start()
await boss.createQueue('note')
await pool.query('create table note (id uuid primary key, text text not null)')

const app = Fastify().withTypeProvider<TypeBoxTypeProvider>().setValidatorCompiler(TypeBoxValidatorCompiler)
const body = Type.Object({ text: Type.String({ maxLength: 200 }) }, { additionalProperties: false })

app.post('/notes', { schema: { body } }, async (request, reply) => {
  const id = uuid7()
  await db.transaction().execute(async (trx) => {
    await trx.insertInto('note').values({ id, text: request.body.text }).execute()
    await boss.send('note', { noteId: id }, { db: fromKysely(trx) })
  })
  return reply.code(202).send({ id, status: 'queued' })
})

await app.listen({ host: '127.0.0.1', port: 0 })
const address = app.server.address() as { port: number }
process.send?.({ port: address.port })
