import { randomBytes } from 'node:crypto'
import type pg from 'pg'
import { PipelinedClient } from './client.ts'
import { markStaleError } from './postgres-error.ts'
import { isStalePlan, mayBeStaleType } from './sqlstate.ts'

/** Limits the memory that prepared statements take on the server, for apps that keep generating new SQL texts. */
const maxStatements = 500
/** A statement that fails again and again gets at most this many names. After that, it is no longer prepared. */
const maxNamesPerStatement = 5

/** A statement that begins with this comment gets no name. */
export const neverPrepared = '/* planned at each call */'

/** A statement that was used before. */
interface KnownStatement {
  name: string | undefined
  /** How many names it has had. */
  names: number
}

/**
 * Creates a client class that uses named prepared statements. A statement with parameters gets a name at its second
 * use. This also applies to the statements of Kysely, pg-boss and the app. All clients of the class share the names, so
 * use one class per pool.
 *
 * Source: PostgreSQL manual, "Extended Query"; node-postgres, "Prepared statements".
 */
export function preparingClient(): typeof PipelinedClient {
  const statements = new Map<string, KnownStatement>()
  // The prefix is random, so that two processes never use the same name. A pooler that mixes up sessions would confuse
  // their statements.
  const prefix = `accepted_${randomBytes(4).toString('hex')}`
  let preparedCount = 0

  const nameOf = (text: string): string | undefined => {
    if (text.startsWith(neverPrepared)) return undefined
    const known = statements.get(text)
    if (!known) {
      if (statements.size < maxStatements) statements.set(text, { name: undefined, names: 0 })
      return undefined
    }
    if (!known.name && known.names < maxNamesPerStatement) {
      known.name = `${prefix}_${++preparedCount}`
      known.names += 1
    }
    return known.name
  }

  const forget = (text: string) => {
    const known = statements.get(text)
    if (known) known.name = undefined
  }

  return class PreparingClient extends PipelinedClient {
    // biome-ignore lint/suspicious/noExplicitAny: pg overloads query eight ways, and only one of them changes
    override query(text: any, values?: any, callback?: any): any {
      if (typeof text !== 'string' || !Array.isArray(values) || values.length === 0) {
        return super.query(text, values, callback)
      }
      const name = nameOf(text)
      if (!name) return super.query(text, values, callback)
      const answer = this.#queryPrepared(name, text, values)
      if (!callback) return answer
      answer.then((result) => callback(null, result), callback)
    }

    /** Forgets a name that may be stale, so that the statement is prepared again under a new name. */
    async #queryPrepared(name: string, text: string, values: unknown[]): Promise<pg.QueryResult> {
      const canRepeat = !this.isInTransaction()
      const { parsedStatements } = (this as unknown as { connection: { parsedStatements: object } }).connection
      const wasPrepared = name in parsedStatements
      try {
        return await super.query({ name, text, values })
      } catch (error) {
        if (isStalePlan(error)) statements.clear()
        else if (wasPrepared && mayBeStaleType(error)) forget(text)
        else throw error
        // Postgres has not run the statement. In a transaction, the transaction must run again from its beginning.
        if (canRepeat) return await super.query({ text, values })
        throw markStaleError(error)
      }
    }
  }
}
