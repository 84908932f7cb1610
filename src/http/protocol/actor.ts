import type { FastifyRequest } from 'fastify'
import { sql, type Transaction } from 'kysely'
import { setActor } from '../../db/actor.ts'
import type { Database } from '../../db/database.ts'
import type { Tables } from '../../db/tables.ts'

/** Runs a transaction for a request, with {@link setActor}. */
export const transactFor = <Result>(
  request: FastifyRequest,
  { kysely }: Database,
  work: (trx: Transaction<Tables>) => Promise<Result>,
): Promise<Result> =>
  kysely.transaction().execute(async (trx) => {
    await sql`select ${setActor(request)}`.execute(trx)
    return work(trx)
  })
