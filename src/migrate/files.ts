import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError } from '../config.ts'
import { splitStatements } from './statements.ts'

/** The directory of our own migrations. They are part of the package. */
export const ownDirectory = join(
  fileURLToPath(new URL('.', import.meta.resolve('accepted/package.json'))),
  'migrations',
)

// Does not match schema.sql in the same directory. That file shows the resulting schema and is not a migration.
const fileName = /^(\d{4}_[a-z0-9_]+)\.sql$/

// These look like migrations to a person, and would be left out silently.
const misnamed = /^v?\d.*\.sql$/i

const noTransaction = /^[ \t]*--[ \t]*accepted:[ \t]*no transaction[ \t]*$/im

/** Returns whether a file has the line `-- accepted: no transaction`. It may follow other comments, but no statement. */
const hasNoTransaction = (text: string) => noTransaction.test(text.slice(0, splitStatements(text)[0]?.start))

/** A migration: a .sql file. */
export interface MigrationFile {
  source: 'accepted' | 'app'
  /** The file name without `.sql`. */
  name: string
  path: string
  text: string
  /** SHA-256 of the text, in hexadecimal digits. The line ends of other systems make no difference. */
  checksum: string
  /** Whether the file runs in a transaction. False for a file that starts with `-- accepted: no transaction`. */
  isTransactional: boolean
}

/**
 * Returns the names of the migrations in a directory, in the order in which they run.
 *
 * @throws ConfigError when the directory cannot be read, or the name of a file is wrong
 */
export async function migrationNames(directory: string): Promise<string[]> {
  const files = await readdir(directory).catch((cause) => {
    throw new ConfigError(
      `The directory of migrations ${directory} cannot be read (${cause.code}). Correct \`migrations\` in the configuration.`,
      { cause },
    )
  })
  const wrong = files.find((file) => misnamed.test(file) && !fileName.test(file))
  if (wrong) {
    throw new ConfigError(
      `The migration ${join(directory, wrong)} has a name that is not like 0001_create_todo.sql (four digits, then lower-case letters, digits and underscores), so it would not run. Rename it.`,
    )
  }
  return files.flatMap((file) => fileName.exec(file)?.[1] ?? []).sort()
}

/**
 * Reads the migrations of a directory, in the order in which they run.
 *
 * @throws ConfigError when the directory cannot be read, or a file is not encoded as UTF-8
 */
export async function readMigrations(source: MigrationFile['source'], directory: string): Promise<MigrationFile[]> {
  const read = async (name: string): Promise<MigrationFile> => {
    const path = join(directory, `${name}.sql`)
    const text = decode(path, await readFile(path)).replaceAll('\r\n', '\n')
    const checksum = createHash('sha256').update(text).digest('hex')
    return { source, name, path, text, checksum, isTransactional: !hasNoTransaction(text) }
  }
  return Promise.all((await migrationNames(directory)).map(read))
}

/** Decodes a text and removes its byte order mark, which Postgres takes for a syntax error. */
function decode(path: string, bytes: Uint8Array): string {
  if (bytes.includes(0)) {
    throw new ConfigError(
      `The migration ${path} contains a NUL character, or is not encoded as UTF-8. Save it as UTF-8.`,
    )
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new ConfigError(`The migration ${path} is not encoded as UTF-8. Save it as UTF-8.`, { cause })
  }
}
