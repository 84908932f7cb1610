import type { Handler } from 'accepted/worker'
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Tables } from '../tables.ts'
import type { exportTodos } from './operation.ts'

/** How many todos a part has, and so how many are in memory at a time. */
const partSize = 1_000

export const exportTodosHandler = (db: Kysely<Tables>) =>
  ({
    concurrency: 2,
    perform: async ({ id, attempt, worker, payload: { exportId, format }, progress, signal }) => {
      // Two attempts may overlap, if a worker was suspended. Each writes a file of its own, and settle chooses one.
      const writer = writerOf({ id, attempt, worker })
      const ready = db.selectFrom('todo').where('status', '=', 'ready').where('id', '<=', exportId)
      const { total } = await ready.select((eb) => eb.fn.countAll<number>().as('total')).executeTakeFirstOrThrow()
      const columns = ['id', 'title'] as const
      let last = '00000000-0000-0000-0000-000000000000'
      for (let position = 0; ; position++) {
        signal.throwIfAborted()
        const page = ready.select(columns).select(sql<string | null>`to_char(due_by, 'YYYY-MM-DD')`.as('dueBy'))
        const todos = await page.where('id', '>', last).orderBy('id').limit(partSize).execute()
        const header = position === 0 && format === 'csv' ? 'title,dueBy\n' : ''
        const content = header + todos.map(lineOf[format]).join('')
        await db.insertInto('todo_export_part').values({ export_id: exportId, writer, position, content }).execute()
        if (todos.length < partSize) return
        last = (todos.at(-1) as (typeof todos)[number]).id
        progress(Math.min(99, ((position + 1) * partSize * 100) / Number(total)))
      }
    },
    settle: async (trx: Transaction<Tables>, jobs) => {
      for (const job of jobs) {
        const { exportId } = job.payload
        const [status, writer] = ['ready' as const, writerOf(job)]
        await trx.updateTable('todo_export').set({ status, writer }).where('id', '=', exportId).execute()
        const parts = trx.deleteFrom('todo_export_part').where('export_id', '=', exportId)
        await parts.where('writer', '<>', writer).execute()
      }
    },
  }) satisfies Handler<typeof exportTodos>

/** Names the worker too: an attempt that a stopping worker has released begins again in another one. */
const writerOf = ({ id, attempt, worker }: { id: string; attempt: number; worker: string }) =>
  `${id}:${attempt}:${worker}`

interface Line {
  title: string
  dueBy: string | null
}

/** The lines of both formats are those that an import takes. */
const lineOf = {
  ndjson: ({ title, dueBy }: Line) => `${JSON.stringify({ title, ...(dueBy && { dueBy }) })}\n`,
  csv: ({ title, dueBy }: Line) => `"${title.replaceAll('"', '""')}",${dueBy ?? ''}\n`,
}
