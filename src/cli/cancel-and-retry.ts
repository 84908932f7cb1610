import { sql } from 'kysely'
import { callFunction } from './call-function.ts'
import type { OutputOptions } from './output-options.ts'

/** Runs `accepted jobs cancel`: cancels a job of any principal. */
export async function cancelJobCommand(id: string, options: OutputOptions): Promise<void> {
  const [row] = await callFunction(sql<{ status: string }>`select accepted.cancel(${id}::uuid) as status`)
  const status = row?.status as string
  if (options.json) return console.log(JSON.stringify({ id, status }))
  console.log(
    status === 'canceled' ? `Canceled ${id}.` : `Requested the cancellation of ${id}, which is still ${status}.`,
  )
}

/** Runs `accepted jobs retry`: runs a failed or canceled job of any principal again, as a new job. */
export async function retryJobCommand(id: string, options: OutputOptions): Promise<void> {
  const [row] = await callFunction(sql<{ id: string }>`select accepted.retry(${id}::uuid) as id`)
  const newId = row?.id as string
  console.log(options.json ? JSON.stringify({ id: newId, retryOf: id }) : newId)
}
