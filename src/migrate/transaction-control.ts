import { ConfigError } from '../config.ts'
import { placeIn, type Statement, splitStatements } from './statements.ts'

const begin = /^(?:begin|start\s+transaction)(?:\s+(?:work|transaction))?$/i
const commit = /^(?:commit|end)(?:\s+(?:work|transaction))?$/i
const control = /^(begin|start|commit|end|abort|rollback|prepare\s+transaction)\b(?!.*\bto\b)/is
const copy = /^copy\b.*\b(?:from\s+stdin|to\s+stdout)\b/is

/**
 * Returns the text of a migration that runs in one transaction, without a BEGIN at its start and a COMMIT at its end:
 * they are replaced with blanks, so that all places in the text stay the same.
 *
 * @throws ConfigError when the text would end that transaction elsewhere, or needs psql
 */
export function withoutTransaction(path: string, text: string): string {
  const statements = splitStatements(text)
  const [first, last] = [statements[0], statements.at(-1)]
  const isFramed = first && last && begin.test(first.text) && commit.test(last.text)
  const rest = isFramed ? statements.slice(1, -1) : statements
  assertRunnable(path, text, rest)
  const own = rest.find((statement) => control.test(statement.text))
  if (own) {
    const keyword = control.exec(own.text)?.[1]?.toUpperCase()
    throw refusal(path, text, own, [
      `contains ${keyword}, but runs in a transaction of its own`,
      'Remove that statement, or put the line `-- accepted: no transaction` at the top of the file',
    ])
  }
  return isFramed ? [first, last].reduce(blankOut, text) : text
}

/** @throws ConfigError when one of the statements needs psql */
export function assertRunnable(path: string, text: string, statements: readonly Statement[]): void {
  const meta = statements.find((statement) => statement.text.startsWith('\\'))
  if (meta) throw refusal(path, text, meta, ['contains a command of psql', 'Write it in SQL'])
  const copying = statements.find((statement) => copy.test(statement.text))
  if (copying) {
    throw refusal(path, text, copying, ['copies rows through psql', 'Write the rows as an INSERT statement'])
  }
}

const blankOut = (text: string, { text: statement, start }: Statement): string =>
  text.slice(0, start) + statement.replace(/\S/g, ' ') + text.slice(start + statement.length)

function refusal(path: string, text: string, { start }: Statement, [fault, remedy]: [string, string]): ConfigError {
  const { line, column } = placeIn(text, start)
  return new ConfigError(`The migration ${path} ${fault}, at line ${line}, column ${column}. ${remedy}.`)
}
