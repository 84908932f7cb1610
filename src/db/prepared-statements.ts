import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { PipelinedClient } from './client.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** Limits the memory that prepared statements take on the server, for apps that keep generating new SQL texts. */
const maxStatements = 500

/**
 * Returns whether the name of a prepared statement no longer works. The reason is that DDL has changed the result of
 * the statement, or that a pooler has switched to another session.
 */
function isStale(error: unknown): boolean {
  const code = errorCode(error)
  if (code === sqlstate.featureNotSupported) {
    // Postgres uses this code for many errors. This routine raises it only for a cached plan whose result type has
    // changed.
    return (error as { routine?: string }).routine === 'RevalidateCachedQuery'
  }
  return code === sqlstate.invalidSqlStatementName || code === sqlstate.duplicatePreparedStatement
}

/**
 * Creates a client class that uses named prepared statements. A statement with parameters gets a name at its second
 * use. This also applies to the statements of Kysely, pg-boss and the app. All clients of the class share the names, so
 * use one class per pool.
 *
 * Source: PostgreSQL manual, "Extended Query"; node-postgres, "Prepared statements".
 */
export function preparingClient(): typeof PipelinedClient {
  const names = new Map<string, string | undefined>()
  // The prefix is random, so that two processes never use the same name. A pooler that mixes up sessions would confuse
  // their statements.
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

  // Forgets all names. The statements get new names when they are used again, so Postgres prepares them again.
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
