import { sql } from 'kysely'
import { callFunction } from './call-function.ts'
import type { OutputOptions } from './output-options.ts'
import { printTable } from './print-table.ts'
import { withDatabase } from './with-database.ts'

interface BacklogRow {
  operation: string
  ready: string
  deferred: string
  running: string
  workers: string
  paused_at: Date | null
  paused_reason: string | null
}

/** Runs `accepted operations list`: lists the operations with their backlog, their workers and their pause. */
export async function listOperationsCommand(options: OutputOptions): Promise<void> {
  const { rows } = await withDatabase((db) =>
    sql<BacklogRow>`select * from accepted.backlog order by operation`.execute(db),
  )
  if (options.json) return console.log(JSON.stringify(rows))
  if (rows.length === 0)
    return console.log('No operations are defined yet: run `accepted migrate` with the configuration of the app.')
  printTable(
    ['OPERATION', 'READY', 'DEFERRED', 'RUNNING', 'WORKERS', 'PAUSED SINCE', 'REASON'],
    rows.map((row) => [
      ...[row.operation, row.ready, row.deferred, row.running, row.workers],
      ...[row.paused_at?.toISOString(), row.paused_reason],
    ]),
  )
}

interface PauseOptions extends OutputOptions {
  reason?: string
}

/** Runs `accepted operations pause`: workers start no jobs of the operation until it is resumed. */
export async function pauseOperationCommand(name: string, options: PauseOptions): Promise<void> {
  await callFunction(sql`select accepted.pause(${name}, ${options.reason ?? null})`)
  if (options.json) return console.log(JSON.stringify({ name, paused: true, reason: options.reason }))
  console.log(`Paused ${name}. To resume it: accepted operations resume ${name}`)
}

/** Runs `accepted operations resume`. */
export async function resumeOperationCommand(name: string, options: OutputOptions): Promise<void> {
  await callFunction(sql`select accepted.resume(${name})`)
  console.log(options.json ? JSON.stringify({ name, paused: false }) : `Resumed ${name}.`)
}
