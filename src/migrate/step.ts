import { ConfigError } from '../config.ts'
import { errorCode, isLostConnection, sqlstate } from '../db/sqlstate.ts'
import type { MigrationFile } from './files.ts'
import { recordMigration } from './history.ts'
import { applySettings, type MigrationSession, useEmptySearchPath } from './session.ts'
import { placeIn, type Statement, splitStatements } from './statements.ts'
import { assertRunnable, withoutTransaction } from './transaction-control.ts'

/** A part of a migration that has a transaction of its own: a file, or what has to exist before the first file. */
export interface Step {
  /** What the step creates, for example the path of a file. For comments and messages. */
  title: string
  text: string
  /** Whether the statements run in one transaction. False if they contain BEGIN and COMMIT, or cannot run in one. */
  isTransactional: boolean
  /** The role that owns our schemas, as SQL. The step runs as this role, except for a file of the app. */
  owner?: string | undefined
  /** The file that becomes an applied migration. */
  file?: MigrationFile
}

/**
 * Makes the step that runs a file and records it.
 *
 * @throws ConfigError when the file contains a statement that cannot run in a migration
 */
export function stepOf(file: MigrationFile, owner: string | undefined): Step {
  const { path: title, text, isTransactional } = file
  if (!isTransactional) assertRunnable(title, text, splitStatements(text))
  return { title, text: isTransactional ? withoutTransaction(title, text) : text, isTransactional, owner, file }
}

/** Returns what comes before and after the statements of a step. */
function frame({ isTransactional, owner, file }: Step): { before: string[]; after: string[] } {
  const becomeOwner = owner === undefined ? [] : [`set role ${owner};`]
  return {
    before: [
      applySettings,
      // The app's own files find the app's tables by the search_path that the database and the role set.
      ...(file?.source === 'app' ? [] : [useEmptySearchPath, ...becomeOwner]),
      ...(isTransactional ? ['begin;'] : []),
    ],
    after: [
      // A file may leave another role set, to which the table of applied migrations does not belong.
      ...(file ? ['reset session authorization;', 'reset role;', ...becomeOwner, recordMigration(file)] : []),
      ...(isTransactional ? ['commit;'] : []),
    ],
  }
}

/** Returns the SQL of a step for a person, to run with psql. */
export function printStep(step: Step): string {
  const { before, after } = frame(step)
  // The last statement of a file may lack its semicolon, or a comment may follow it.
  return [`-- ${step.title}`, ...before.map((part) => part.trim()), `${step.text.trim()}\n;`, ...after].join('\n')
}

/**
 * Runs a step and commits it.
 *
 * @throws ConfigError that names the file, and the line for an error in the SQL; the step is rolled back if it is
 *   transactional
 */
export async function runStep(session: MigrationSession, step: Step): Promise<void> {
  const { before, after } = frame(step)
  const run = async (text: string, statement?: Statement) => {
    try {
      await session.query(text)
    } catch (error) {
      throw stepError(step, error, statement)
    }
  }
  for (const text of before) await run(text)
  for (const statement of splitStatements(step.text)) await run(statement.text, statement)
  if (!step.isTransactional && (await hasOpenTransaction(session))) {
    throw new ConfigError(
      `Migration ${step.title} failed: it leaves a transaction open. Its statements since the last BEGIN were not applied. Add COMMIT.`,
    )
  }
  for (const text of after) await run(text)
}

/** Outside a transaction, each statement begins a transaction of its own. */
async function hasOpenTransaction(session: MigrationSession): Promise<boolean> {
  const rows = await session.query(
    'select where pg_catalog.now() operator(pg_catalog.<) pg_catalog.statement_timestamp()',
  )
  return rows.length > 0
}

type PostgresError = Error & Partial<Record<'detail' | 'hint' | 'where' | 'position', string>>

function stepError(step: Step, error: unknown, statement?: Statement): ConfigError {
  if (isLostConnection(error)) return lostConnectionError(error, ` during ${step.title}`)
  const { message, detail, hint, where, position } = error as PostgresError
  const sentences = [`${step.file ? 'Migration' : 'Creating'} ${step.title} failed: ${message}`]
  if (statement) {
    // Postgres gives a position for errors in the text. Other errors belong to the whole statement.
    const { line, column } = placeIn(step.text, statement.start, Number(position ?? 1) - 1)
    sentences[0] += `, at line ${line}, column ${column}`
  }
  // The first line of `where` is the line of a function or a DO block.
  sentences.push(...[detail, where?.split('\n', 1)[0], hint].filter((sentence) => sentence !== undefined))
  if (errorCode(error) === sqlstate.activeSqlTransaction) {
    sentences.push('Put the line `-- accepted: no transaction` at the top of the file.')
  }
  sentences.push(
    step.file?.isTransactional === false
      ? 'It runs without a transaction, so its statements before that line stay applied.'
      : 'Nothing of it was applied.',
  )
  const oneLine = (text: string) =>
    text
      .split('\n')
      .map((line) => line.trim())
      .filter(Boolean)
      .join(' ')
  const text = sentences.map((sentence) => oneLine(sentence).replace(/\.?$/, '.')).join(' ')
  return new ConfigError(text, { cause: error })
}

/** Returns the error for a connection that was lost, with what to do. */
export const lostConnectionError = (cause: unknown, when = ''): ConfigError =>
  new ConfigError(
    `The connection to Postgres was lost${when} (${(cause as Error).message}). Run \`accepted migrate\` again: it continues after the last migration that was committed.`,
    { cause },
  )
