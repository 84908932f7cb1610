import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { PipelinedClient } from './client.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** Limits the memory that prepared statements take on the server, for apps that keep generating new SQL texts. */
const maxStatements = 500

/**
 * Whether the name of a prepared statement no longer works, because DDL changed the result of the statement or a pooler
 * switched to another session.
 */
function isStale(error: unknown): boolean {
  const code = errorCode(error)
  if (code === sqlstate.featureNotSupported) {
    // Postgres uses this code for many errors; this routine raises it for a cached plan whose result type has changed.
    return (error as { routine?: string }).routine === 'RevalidateCachedQuery'
  }
  return code === sqlstate.invalidSqlStatementName || code === sqlstate.duplicatePreparedStatement
}

/**
 * Creates a client class that sends every parameterised statement as a named prepared statement from its second use on,
 * including those of Kysely, pg-boss and the app. All clients of the class share the names, so use one class per pool.
 *
 * Source: PostgreSQL manual, "Extended Query"; node-postgres, "Prepared statements".
 */
export function preparingClient(): typeof PipelinedClient {
  const names = new Map<string, string | undefined>()
  // Random: behind a pooler that mixes up sessions, one name must not stand for two statements.
  const prefix = `accepted_${randomBytes(4).toString('hex')}`
  let preparedCount = 0

  const nameOf = (text: string): string | undefined => {
    if (!names.has(text)) {
      if (names.size < maxStatements) names.set(text, undefined)
      return undefined
    }
    const name = names.get(text) ?? `${prefix}_${++preparedCount}`
    names.set(text, name)
    return name
  }

  // The next uses get new names, so Postgres prepares the statements again.
  const forgetWhenStale = (error: unknown) => {
    if (isStale(error)) names.clear()
  }

  return class PreparingClient extends PipelinedClient {
    // biome-ignore lint/suspicious/noExplicitAny: pg overloads query eight ways, and only one of them changes
    override query(text: any, values?: any, callback?: any): any {
      if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0) {
        return super.query(text, values, callback)
      }
      const name = nameOf(text)
      if (!name) return super.query(text, values, callback)
      const config = { name, text, values }
      if (callback) {
        return super.query(config, (error: Error, result: pg.QueryResult) => {
          forgetWhenStale(error)
          callback(error, result)
        })
      }
      return super.query(config).catch((error: unknown) => {
        forgetWhenStale(error)
        throw error
      })
    }
  }
}
