import type { RawBuilder } from 'kysely'
import { ConfigError } from '../config.ts'
import { errorCode } from '../db/sqlstate.ts'
import { withDatabase } from './with-database.ts'

/** The SQLSTATEs of refusals: of our functions in SQL, of an id that is no UUID, and of a missing privilege. */
const refusals: readonly (string | undefined)[] = ['42704', 'P0002', '55000', '22023', '22P02', '42501']

/**
 * Runs a statement that calls one of the functions in SQL, and returns its rows.
 *
 * @throws ConfigError with the message and the hint of Postgres, when the function refuses
 */
export function callFunction<Row>(statement: RawBuilder<Row>): Promise<Row[]> {
  return withDatabase(async (db) => {
    try {
      return (await statement.execute(db)).rows
    } catch (error) {
      if (!refusals.includes(errorCode(error))) throw error
      const { message, hint } = error as { message: string; hint?: string }
      const sentence = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`
      throw new ConfigError(hint === undefined ? sentence : `${sentence} ${hint}`, { cause: error })
    }
  })
}
