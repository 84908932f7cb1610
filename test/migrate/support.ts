import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import { type MigrateOptions, migrate } from '../../src/migrate/migrate.ts'

/** Writes migrations into a new directory. */
export async function migrationsDirectory(t: Test, files: Record<string, string | Uint8Array>): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'accepted-migrations-'))
  t.teardown(() => rm(directory, { recursive: true }))
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text)
  return directory
}

/** Opens a session for statements of the test. */
export async function openSession(t: Test, url: string) {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  t.teardown(() => client.end())
  // biome-ignore lint/suspicious/noExplicitAny: rows of any shape
  return async (text: string, values: unknown[] = []): Promise<any[]> => (await client.query(text, values)).rows
}

/** Migrates, and returns the names of the migrations that were reported. */
export async function runMigrate(options: MigrateOptions): Promise<string[]> {
  const names: string[] = []
  await migrate({ ...options, onStep: ({ name }) => names.push(name) })
  return names
}

/** Returns the message of the error with which a call rejects. */
export const messageOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'no error',
    (error: Error) => error.message,
  )
