import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { PipelinedClient } from './client.ts'
import { isStalePlan } from './sqlstate.ts'

/** Limits the memory that prepared statements take on the server, for apps that keep generating new SQL texts. */
const maxStatements = 500

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

  return class PreparingClient extends PipelinedClient {
    // biome-ignore lint/suspicious/noExplicitAny: pg overloads query eight ways, and only one of them changes
    override query(text: any, values?: any, callback?: any): any {
      if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0) {
        return super.query(text, values, callback)
      }
      const name = nameOf(text)
      if (!name) return super.query(text, values, callback)
      const answer = this.#queryPrepared({ name, text, values })
      if (!callback) return answer
      answer.then((result) => callback(null, result), callback)
    }

    /** Forgets all names when one is stale, so that all statements are prepared again under new names. */
    async #queryPrepared(config: pg.QueryConfig): Promise<pg.QueryResult> {
      const canRepeat = !this.isInTransaction()
      try {
        return await super.query(config)
      } catch (error) {
        if (!isStalePlan(error)) throw error
        names.clear()
        // Postgres has not run the statement. In a transaction, the transaction must run again from its beginning.
        if (canRepeat) return await super.query({ text: config.text, values: config.values ?? [] })
        throw error
      }
    }
  }
}
