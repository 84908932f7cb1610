import type { RawBuilder } from 'kysely'
import { ConfigError } from '../config.ts'
import type { Database } from '../db/database.ts'
import { errorCode, sqlstate } from '../db/sqlstate.ts'
import { withCommands } from './command-hints.ts'

/** The SQLSTATEs of refusals: of our functions in SQL, of an id that is no UUID, and of a missing privilege. */
const refusals: readonly (string | undefined)[] = [
  ...[sqlstate.undefinedObject, sqlstate.noDataFound, sqlstate.objectNotInPrerequisiteState],
  ...[sqlstate.invalidParameterValue, sqlstate.invalidTextRepresentation, sqlstate.insufficientPrivilege],
]

const operatorAdvice = 'Grant accepted_operator to the role in DATABASE_URL, or connect as another role.'

/**
 * Runs a statement that calls one of the functions in SQL, and returns its first row.
 *
 * @throws ConfigError with the message and the hint of the function, when the function refuses
 */
export async function callFunction<Row>(db: Database['kysely'], statement: RawBuilder<Row>): Promise<Row | undefined> {
  try {
    return (await statement.execute(db)).rows[0]
  } catch (error) {
    if (!refusals.includes(errorCode(error))) throw error
    const { message, hint } = error as { message: string; hint?: string }
    const advice = errorCode(error) === sqlstate.insufficientPrivilege ? operatorAdvice : undefined
    const sentence = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`
    throw new ConfigError([sentence, withCommands(hint ?? advice ?? '')].join(' ').trim(), { cause: error })
  }
}
