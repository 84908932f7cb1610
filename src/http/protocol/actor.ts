import type { FastifyRequest } from 'fastify'
import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { Database } from '../../db/database.ts'
import type { Tables } from '../../db/tables.ts'

/** Builds expressions that set the principal and the API key that `accepted.audit` records. */
export const setActor = ({ principal, keyId }: FastifyRequest): RawBuilder<unknown> => sql`
  set_config('accepted.principal', ${principal}, true), set_config('accepted.key_id', ${keyId ?? ''}, true)`

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
