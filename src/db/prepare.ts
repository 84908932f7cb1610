import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { TracedClient } from './client.ts'
import { errorCode, sqlstate } from './sqlstate.ts'

/** So many texts get a name; an app that builds ever new ones must not fill the server's memory. */
const mostStatements = 500

/** After DDL a plan may no longer fit, and behind a pooler a name may be unknown, or another's. */
function isStale(error: unknown): boolean {
  const code = errorCode(error)
  if (code === sqlstate.featureNotSupported) {
    // Postgres says the same of much else; this is where it looks whether a plan still fits.
    return (error as { routine?: string }).routine === 'RevalidateCachedQuery'
  }
  return code === sqlstate.invalidSqlStatementName || code === sqlstate.duplicatePreparedStatement
}

/**
 * A client that sends every parameterised statement as a named prepared statement from its second use on:
 * Kysely's, pg-boss's and the app's alike. The names are shared by all clients of the class, so make one a pool.
 *
 * Source: PostgreSQL manual, "Extended Query"; node-postgres, "Prepared statements".
 */
export function preparingClient(): typeof TracedClient {
  const names = new Map<string, string | undefined>()
  // Where a pooler mixes sessions up, a name of another process must be unknown, not another statement.
  const prefix = `accepted_${randomBytes(4).toString('hex')}`
  let prepared = 0

  const nameOf = (text: string): string | undefined => {
    if (!names.has(text)) {
      if (names.size < mostStatements) names.set(text, undefined)
      return undefined
    }
    const name = names.get(text) ?? `${prefix}_${++prepared}`
    names.set(text, name)
    return name
  }

  // New names prepare afresh.
  const forgetWhenStale = (error: unknown) => {
    if (isStale(error)) names.clear()
  }

  return class PreparingClient extends TracedClient {
    // biome-ignore lint/suspicious/noExplicitAny: pg's query is overloaded eight ways; only one of them is changed
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
