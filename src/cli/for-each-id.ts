import type { Database } from '../db/database.ts'
import { formatError } from './format-error.ts'
import type { OutputOptions } from './output-options.ts'
import { withDatabase } from './with-database.ts'

interface Action<Result> {
  act(db: Database['kysely'], id: string): Promise<Result>
  format(result: Result): string
}

/**
 * Does the same for each id, one after the other. An error is printed, makes the exit code 1, and does not stop the
 * others. With `json`, prints the result of one id, or an array of the results of several.
 */
export async function forEachId<Result>(
  ids: readonly string[],
  { json = false }: OutputOptions,
  { act, format }: Action<Result>,
): Promise<void> {
  const results: Result[] = []
  await withDatabase(async (db) => {
    for (const id of ids) {
      try {
        const result = await act(db, id)
        results.push(result)
        if (json) continue
        const text = format(result)
        // An empty line separates texts of several lines.
        console.log(results.length > 1 && text.includes('\n') ? `\n${text}` : text)
      } catch (error) {
        if (ids.length === 1) throw error
        console.error(`error: ${formatError(error)}`)
        process.exitCode = 1
      }
    }
  })
  if (json) console.log(JSON.stringify(ids.length === 1 ? results[0] : results))
}
